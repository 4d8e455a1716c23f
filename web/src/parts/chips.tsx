import { say, sayOf } from "../words/language";
import { percent } from "../words/format";

const MARKS: Record<string, string> = { positive: "▲", negative: "○", refused: "✕" };

/** Form, word and colour say the same, so that no colour has to be told from another. */
export function OutcomeChip(props: { outcome: string | null }) {
  if (!props.outcome) return <span class="quiet">{say("outcome_none")}</span>;
  return (
    <span class={`chip outcome-${props.outcome}`}>
      <span aria-hidden="true">{MARKS[props.outcome] ?? ""}</span> {sayOf("outcome", props.outcome)}
    </span>
  );
}

export function StateChip(props: { state: string }) {
  return <span class={`chip state-${props.state}`}>{sayOf("state", props.state)}</span>;
}

export function VerdictChip(props: { verdict: string | null }) {
  if (!props.verdict) return <span class="quiet">–</span>;
  const mark = { agree: "✓", disagree: "✗", correct: "✎" }[props.verdict] ?? "";
  return (
    <span class={`chip verdict-${props.verdict}`}>
      <span aria-hidden="true">{mark}</span> {sayOf("verdict", props.verdict)}
    </span>
  );
}

export function Warnings(props: { count: number }) {
  if (props.count === 0) return <span class="quiet">–</span>;
  return (
    <span class="chip chip-warning">
      <span aria-hidden="true">!</span> {props.count}{" "}
      <span class="count-words">{props.count === 1 ? say("oneWarning") : say("manyWarnings")}</span>
    </span>
  );
}

/** A probability as number and bar, with a mark where the threshold is. */
export function ProbabilityBar(props: { value: number | null; threshold?: number | null; strong?: boolean }) {
  if (props.value === null) return <span class="quiet">–</span>;
  const threshold = props.threshold ?? null;
  const over = threshold !== null && props.value >= threshold;
  return (
    <span class={`probability${over ? " over" : ""}${props.strong ? " strong" : ""}`}>
      <svg viewBox="0 0 100 12" preserveAspectRatio="none" aria-hidden="true">
        <rect class="track" x="0" y="2" width="100" height="8" />
        <rect class="fill" x="0" y="2" width={100 * props.value} height="8" />
        {threshold !== null && <rect class="mark" x={100 * threshold - 0.6} y="0" width="1.2" height="12" />}
      </svg>
      <b>{percent(props.value)}</b>
    </span>
  );
}
