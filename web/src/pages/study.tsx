import { useEffect, useState } from "preact/hooks";
import { get, urls, type Me, type Result, type Study, type StudySummary } from "../api";
import { useKeys, useLoaded } from "../hooks";
import { OutcomeChip, ProbabilityBar, StateChip, VerdictChip } from "../parts/chips";
import { KeysHelp } from "../parts/keys";
import { neighbour, order, rememberOrder } from "../parts/order";
import { follow, go, paths } from "../routes";
import { dicomDate, dicomTime, personName } from "../words/format";
import { say } from "../words/language";
import { FeedbackPanel } from "./feedback";
import { Radiograph } from "./radiograph";
import { Headline, ResultDetails } from "./result";
import { Rerun } from "./worklist";

export function StudyPage(props: { uid: string; me: Me }) {
  const loaded = useLoaded<Study>(urls.study(props.uid));
  const [chosenResult, setChosenResult] = useState<number | null>(null);
  const [help, setHelp] = useState(false);
  useOrder();

  const move = (step: 1 | -1) => {
    const next = neighbour(props.uid, step);
    if (next) go(paths.study(next));
  };
  useKeys({ n: () => move(1), p: () => move(-1), "?": () => setHelp(!help), Escape: () => setHelp(false) });

  if (!loaded.data) {
    if (!loaded.error) return <p class="loading">{say("loading")}</p>;
    return (
      <p class="problem">
        {loaded.error.status === 404 ? say("notFound") : say("failed", { detail: loaded.error.message })}{" "}
        <a href={paths.worklist} onClick={(event) => follow(event, paths.worklist)}>
          {say("back")}
        </a>
      </p>
    );
  }
  const { study, images, results, previous, job } = loaded.data;
  const result = pickResult(results, chosenResult);
  return (
    <div class="study">
      <div class="study-head">
        <a class="button" href={paths.worklist} onClick={(event) => follow(event, paths.worklist)}>
          <span aria-hidden="true">‹</span> {say("worklist")}
        </a>
        <Person study={study} />
        <StateChip state={study.state} />
        <span class="steps">
          <button type="button" disabled={!neighbour(props.uid, -1)} onClick={() => move(-1)}>
            {say("previousStudy")} <kbd>p</kbd>
          </button>
          <button type="button" disabled={!neighbour(props.uid, 1)} onClick={() => move(1)}>
            {say("nextStudy")} <kbd>n</kbd>
          </button>
          <button type="button" aria-expanded={help} onClick={() => setHelp(!help)}>
            {say("help")} <kbd>?</kbd>
          </button>
        </span>
      </div>
      <Radiograph images={images} resultId={result?.id ?? null} readings={result?.reading.images ?? []} />
      <aside class="panel">
        {study.reason && <p class="problem">{study.reason}</p>}
        {job?.reason && job.reason !== study.reason && <p class="problem">{job.reason}</p>}
        {results.length > 1 && <ResultChoice results={results} chosen={result?.id ?? null} choose={setChosenResult} />}
        {result && <Headline result={result} />}
        {!result && <p class="empty">{say("noResult")}</p>}
        {result && result.outcome !== "refused" && (
          <FeedbackPanel key={result.id} result={result} me={props.me} changed={loaded.reload} />
        )}
        {result && <ResultDetails result={result} me={props.me} changed={loaded.reload} />}
        {props.me.role === "admin" && job && (
          <p>
            <Rerun uid={study.study_uid} done={loaded.reload} />
          </p>
        )}
        <section>
          <h2>{say("previous")}</h2>
          {previous.length === 0 && <p class="quiet">{say("noPrevious")}</p>}
          <ul class="previous">
            {previous.map((one) => (
              <li key={one.study_uid}>
                <a href={paths.study(one.study_uid)} onClick={(event) => follow(event, paths.study(one.study_uid))}>
                  {dicomDate(one.study_date) || say("study")} {one.description}
                </a>
                <OutcomeChip outcome={one.outcome} />
                <ProbabilityBar value={one.probability} threshold={one.threshold ?? null} />
                {one.feedback && <VerdictChip verdict={one.feedback} />}
              </li>
            ))}
          </ul>
        </section>
      </aside>
      {help && <KeysHelp close={() => setHelp(false)} />}
    </div>
  );
}

/** A study that was opened by its address has neighbours, too: those of the worklist as it begins. */
function useOrder(): void {
  const [, setKnown] = useState(order().length > 0);
  useEffect(() => {
    if (order().length > 0) return;
    void (async () => {
      try {
        const list = await get<{ studies: StudySummary[] }>("/api/studies?order=urgent&limit=50&offset=0");
        rememberOrder(list.studies.map((study) => study.study_uid));
        setKnown(true);
      } catch {
        // Without it, only the keys for the next and the previous study do nothing.
      }
    })();
  }, []);
}

function pickResult(results: Result[], chosen: number | null): Result | null {
  return (
    results.find((one) => one.id === chosen) ??
    results.find((one) => one.current && one.outcome === "positive") ??
    results.find((one) => one.current) ??
    results[0] ??
    null
  );
}

function Person(props: { study: StudySummary }) {
  const { study } = props;
  return (
    <div class="person">
      <h1>{personName(study.patient_name)}</h1>
      <p>
        {[
          study.patient_id,
          study.patient_sex && say("sex", { sex: study.patient_sex }),
          study.patient_birth_date && say("born", { date: dicomDate(study.patient_birth_date) }),
          `${dicomDate(study.study_date)} ${dicomTime(study.study_time)}`.trim(),
          study.accession_number,
          study.description,
        ]
          .filter(Boolean)
          .join(" · ")}
      </p>
    </div>
  );
}

function ResultChoice(props: { results: Result[]; chosen: number | null; choose: (id: number) => void }) {
  return (
    <div class="tabs" role="group" aria-label={say("result")}>
      {props.results.map((one) => (
        <button type="button" key={one.id} aria-pressed={one.id === props.chosen} onClick={() => props.choose(one.id)}>
          {one.bundle} · {say("versionOf", { version: one.version })}
          {one.current && ` · ${say("current")}`}
        </button>
      ))}
    </div>
  );
}
