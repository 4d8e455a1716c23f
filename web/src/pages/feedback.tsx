import { useState } from "preact/hooks";
import { post, urls, type Me, type Result, type Verdict } from "../api";
import { useKeys } from "../hooks";
import { VerdictChip } from "../parts/chips";
import { clock } from "../words/format";
import { say } from "../words/language";

export function FeedbackPanel(props: { result: Result; me: Me; changed: () => void }) {
  const { result, me } = props;
  const [remark, setRemark] = useState("");
  const [correcting, setCorrecting] = useState(false);
  const [said, setSaid] = useState("");
  const [problem, setProblem] = useState("");
  const may = me.role === "reader" || me.role === "admin";
  const labels = result.reading.model.classes.map((one) => one.label);
  const mine = result.feedback.find((one) => one.user === me.user)?.verdict ?? null;

  const send = async (verdict: Verdict, label = "") => {
    setCorrecting(false);
    setProblem("");
    setSaid("");
    try {
      await post(urls.feedback(result.id), { verdict, label, remark: remark.trim() });
      setRemark("");
      setSaid(say("saved"));
      props.changed();
    } catch (error) {
      setProblem(say("failed", { detail: (error as Error).message }));
    }
  };
  const numbers: Record<string, () => void> = {};
  if (correcting) {
    labels.slice(0, 9).forEach((label, at) => (numbers[String(at + 1)] = () => void send("correct", label)));
    numbers.Escape = () => setCorrecting(false);
  }
  useKeys(
    may
      ? { a: () => void send("agree"), d: () => void send("disagree"), c: () => setCorrecting(!correcting), ...numbers }
      : {},
  );

  return (
    <section class="feedback">
      <h2>{say("yourVerdict")}</h2>
      {!may && <p class="quiet">{say("mayNot")}</p>}
      {may && (
        <>
          <div class="verdicts">
            <button type="button" class="agree" aria-pressed={mine === "agree"} onClick={() => void send("agree")}>
              <span aria-hidden="true">✓</span> {say("agree")} <kbd>a</kbd>
            </button>
            <button
              type="button"
              class="disagree"
              aria-pressed={mine === "disagree"}
              onClick={() => void send("disagree")}
            >
              <span aria-hidden="true">✗</span> {say("disagree")} <kbd>d</kbd>
            </button>
            <button
              type="button"
              class="correct"
              aria-pressed={mine === "correct"}
              aria-expanded={correcting}
              onClick={() => setCorrecting(!correcting)}
            >
              <span aria-hidden="true">✎</span> {say("correct")} <kbd>c</kbd>
            </button>
          </div>
          {correcting && (
            <div class="classes" role="group" aria-label={say("chooseClass")}>
              <p>{say("chooseClass")}</p>
              {labels.map((label, at) => (
                <button type="button" key={label} onClick={() => void send("correct", label)}>
                  {at < 9 && <kbd>{at + 1}</kbd>} {label}
                </button>
              ))}
            </div>
          )}
          <textarea
            rows={2}
            maxLength={1000}
            placeholder={say("remark")}
            aria-label={say("remark")}
            value={remark}
            onInput={(event) => setRemark(event.currentTarget.value)}
            onKeyDown={(event) => event.key === "Escape" && event.currentTarget.blur()}
          />
        </>
      )}
      <p role="status" class="saved">
        {said}
      </p>
      {problem && (
        <p class="problem" role="alert">
          {problem}
        </p>
      )}
      {result.feedback.length === 0 && <p class="quiet">{say("noFeedbackYet")}</p>}
      <ul class="said">
        {result.feedback.map((one) => (
          <li key={`${one.user} ${one.at}`}>
            <VerdictChip verdict={one.verdict} /> {one.label && <b>{one.label}</b>}{" "}
            <span class="quiet">
              {one.user}, {clock(one.at)}
            </span>
            {one.remark && <p>{one.remark}</p>}
          </li>
        ))}
      </ul>
    </section>
  );
}
