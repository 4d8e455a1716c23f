import { useEffect, useRef, useState } from "preact/hooks";
import { post, urls, type Me, type StudySummary } from "../api";
import { useKeys, useLoaded, useNow } from "../hooks";
import { OutcomeChip, ProbabilityBar, StateChip, VerdictChip, Warnings } from "../parts/chips";
import { rememberOrder } from "../parts/order";
import { follow, go, paths } from "../routes";
import { clock, dicomDate, personName, span } from "../words/format";
import { say, sayOf } from "../words/language";

const PAGE = 50;
const STATES = ["receiving", "waiting", "reading", "delivering", "done", "ignored", "quarantined"];
const OUTCOMES = ["positive", "negative", "refused"];

interface Filters {
  order: "urgent" | "newest";
  state: string;
  outcome: string;
  feedback: string;
  text: string;
  limit: number;
}

// Filters and place survive a visit to a study.
let filters: Filters = { order: "urgent", state: "", outcome: "", feedback: "", text: "", limit: PAGE };
let selected: string | null = null;
let scrolled = 0;

function query(asked: Filters): string {
  const parameters = new URLSearchParams({ order: asked.order, limit: String(asked.limit), offset: "0" });
  for (const name of ["state", "outcome", "feedback", "text"] as const) {
    if (asked[name]) parameters.set(name, asked[name]);
  }
  return `/api/studies?${parameters}`;
}

export function WorklistPage(props: { me: Me }) {
  const [asked, setAsked] = useState(filters);
  const [chosen, setChosen] = useState(selected);
  const loaded = useLoaded<{ total: number; studies: StudySummary[] }>(query(asked));
  const now = useNow();
  const place = useRef<HTMLDivElement>(null);
  const restored = useRef(false);
  const studies = loaded.data?.studies ?? [];

  const ask = (change: Partial<Filters>) => {
    filters = { ...asked, limit: PAGE, ...change };
    setAsked(filters);
  };
  const choose = (uid: string | null) => {
    selected = uid;
    setChosen(uid);
  };
  const move = (step: number) => {
    const at = studies.findIndex((study) => study.study_uid === chosen);
    const next = studies[at < 0 ? 0 : Math.min(studies.length - 1, Math.max(0, at + step))];
    if (!next) return;
    choose(next.study_uid);
    document.getElementById(`row-${next.study_uid}`)?.scrollIntoView({ block: "nearest" });
  };
  useKeys({
    n: () => move(1),
    p: () => move(-1),
    ArrowDown: () => move(1),
    ArrowUp: () => move(-1),
    Enter: () => chosen && go(paths.study(chosen)),
  });

  useEffect(() => {
    if (!loaded.data) return;
    rememberOrder(loaded.data.studies.map((study) => study.study_uid));
    if (!restored.current && place.current) {
      place.current.scrollTop = scrolled;
      restored.current = true;
    }
  }, [loaded.data]);

  return (
    <>
      <div class="filters">
        <Choice
          label={say("order")}
          value={asked.order}
          set={(value) => ask({ order: value as Filters["order"] })}
          options={[
            ["urgent", say("urgent")],
            ["newest", say("newest")],
          ]}
        />
        <Choice
          label={say("state")}
          value={asked.state}
          set={(state) => ask({ state })}
          options={[["", say("anyState")], ...STATES.map((state) => [state, sayOf("state", state)] as const)]}
        />
        <Choice
          label={say("outcome")}
          value={asked.outcome}
          set={(outcome) => ask({ outcome })}
          options={[["", say("anyOutcome")], ...OUTCOMES.map((name) => [name, sayOf("outcome", name)] as const)]}
        />
        <Choice
          label={say("feedback")}
          value={asked.feedback}
          set={(feedback) => ask({ feedback })}
          options={[
            ["", say("anyFeedback")],
            ["none", say("noFeedback")],
            ...(["agree", "disagree", "correct"] as const).map((name) => [name, sayOf("verdict", name)] as const),
          ]}
        />
        <Search value={asked.text} set={(text) => ask({ text })} />
        <span class="count" role="status">
          {loaded.data && (loaded.data.total === 1 ? say("oneStudy") : say("studyCount", { count: loaded.data.total }))}
        </span>
      </div>
      <div class="list" ref={place} onScroll={(event) => (scrolled = event.currentTarget.scrollTop)}>
        {!loaded.data && !loaded.error && <p class="loading">{say("loading")}</p>}
        {loaded.error && !loaded.data && <p class="problem">{say("failed", { detail: loaded.error.message })}</p>}
        {loaded.data && studies.length === 0 && (
          <p class="empty">
            {say(query({ ...asked, order: "urgent" }) === query(EMPTY) ? "noStudiesYet" : "noStudies")}
          </p>
        )}
        {studies.length > 0 && (
          <table class="worklist">
            <thead>
              <tr>
                <th>{say("outcome")}</th>
                <th>{say("probability")}</th>
                <th>{say("patient")}</th>
                <th class="wide">{say("study")}</th>
                <th>{say("state")}</th>
                <th>{say("warnings")}</th>
                <th class="optional">{say("feedback")}</th>
                <th>{say("received")}</th>
              </tr>
            </thead>
            <tbody>
              {studies.map((study) => (
                <Row
                  key={study.study_uid}
                  study={study}
                  now={now}
                  me={props.me}
                  chosen={study.study_uid === chosen}
                  choose={() => choose(study.study_uid)}
                  changed={loaded.reload}
                />
              ))}
            </tbody>
          </table>
        )}
        {loaded.data && loaded.data.total > studies.length && (
          <button type="button" class="more" onClick={() => ask({ limit: asked.limit + PAGE })}>
            {say("showMore")}
          </button>
        )}
      </div>
    </>
  );
}

const EMPTY: Filters = { order: "urgent", state: "", outcome: "", feedback: "", text: "", limit: PAGE };

function Row(props: {
  study: StudySummary;
  now: number;
  me: Me;
  chosen: boolean;
  choose: () => void;
  changed: () => void;
}) {
  const { study } = props;
  const path = paths.study(study.study_uid);
  const open = (event: MouseEvent) => {
    if ((event.target as HTMLElement).closest("button, a")) return;
    props.choose();
    go(path);
  };
  const modalities = Array.isArray(study.modalities)
    ? study.modalities.join(" ")
    : study.modalities.replace(/\\/g, " ");
  return (
    <tr
      id={`row-${study.study_uid}`}
      class={`row state-row-${study.state} outcome-row-${study.outcome ?? "none"}`}
      aria-selected={props.chosen}
      onClick={open}
    >
      <td>
        <OutcomeChip outcome={study.outcome} />
      </td>
      <td class="probability-cell">
        <ProbabilityBar value={study.probability} threshold={study.threshold ?? null} />
        {study.positive_class && study.probability !== null && <small>{study.positive_class}</small>}
      </td>
      <td>
        <a
          class="patient"
          href={path}
          onClick={(event) => {
            props.choose();
            follow(event, path);
          }}
        >
          {personName(study.patient_name)}
        </a>
        <small>
          {[study.patient_id, study.patient_sex, dicomDate(study.patient_birth_date)].filter(Boolean).join(" · ")}
        </small>
      </td>
      <td class="wide">
        {modalities} {study.description}
        <small>
          {[
            dicomDate(study.study_date),
            study.accession_number,
            study.images === 1 ? say("oneImage") : say("images", { count: study.images }),
          ]
            .filter(Boolean)
            .join(" · ")}
        </small>
      </td>
      <td>
        <StateChip state={study.state} />
        {study.reason && (study.state === "quarantined" || study.state === "ignored") && (
          <small class="reason">{study.reason}</small>
        )}
        {study.state === "quarantined" && props.me.role === "admin" && (
          <Rerun uid={study.study_uid} done={props.changed} />
        )}
      </td>
      <td>
        <Warnings count={study.warnings} />
      </td>
      <td class="optional">
        <VerdictChip verdict={study.feedback} />
      </td>
      <td class="when">
        {study.received_at !== null && (
          <time title={clock(study.received_at)}>{say("ago", { time: span(props.now - study.received_at) })}</time>
        )}
      </td>
    </tr>
  );
}

export function Rerun(props: { uid: string; done: () => void }) {
  const [problem, setProblem] = useState("");
  const [busy, setBusy] = useState(false);
  const rerun = async () => {
    setBusy(true);
    try {
      await post(urls.rerun(props.uid));
      props.done();
      setProblem("");
    } catch (error) {
      setProblem(say("failed", { detail: (error as Error).message }));
    }
    setBusy(false);
  };
  return (
    <>
      <button type="button" class="small" disabled={busy} onClick={() => void rerun()}>
        {say("rerun")}
      </button>
      {problem && <small class="problem">{problem}</small>}
    </>
  );
}

function Choice(props: {
  label: string;
  value: string;
  set: (value: string) => void;
  options: (readonly [string, string])[];
}) {
  return (
    <label class="choice">
      <span>{props.label}</span>
      <select value={props.value} onChange={(event) => props.set(event.currentTarget.value)}>
        {props.options.map(([value, words]) => (
          <option key={value} value={value}>
            {words}
          </option>
        ))}
      </select>
    </label>
  );
}

/** Asks when the typing pauses, not at each letter. */
function Search(props: { value: string; set: (text: string) => void }) {
  const timer = useRef<ReturnType<typeof setTimeout>>();
  useEffect(() => () => clearTimeout(timer.current), []);
  const typed = (text: string) => {
    clearTimeout(timer.current);
    timer.current = setTimeout(() => props.set(text.trim()), 300);
  };
  return (
    <label class="search">
      <span class="hidden">{say("search")}</span>
      <input
        type="search"
        placeholder={say("search")}
        defaultValue={props.value}
        maxLength={64}
        onInput={(event) => typed(event.currentTarget.value)}
      />
    </label>
  );
}
