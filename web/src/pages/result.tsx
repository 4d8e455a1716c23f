import { useState } from "preact/hooks";
import { post, urls, type Delivery, type ImageReading, type Me, type Result } from "../api";
import { OutcomeChip, ProbabilityBar, StateChip } from "../parts/chips";
import { clock, number, percent } from "../words/format";
import { say } from "../words/language";

/** What is read first: outcome, probability beside the threshold, warnings. */
export function Headline(props: { result: Result }) {
  const { result } = props;
  const { model, images, unreadable } = result.reading;
  return (
    <section class="headline">
      {!result.current && <p class="problem">{say("olderVersion")}</p>}
      <p class="answer">
        <OutcomeChip outcome={result.outcome} />
        <span>{model.positive_class ?? images[0]?.decision ?? ""}</span>
      </p>
      {result.probability !== null && (
        <>
          <ProbabilityBar value={result.probability} threshold={model.threshold} strong />
          {model.threshold !== null && (
            <p class="quiet">
              {say("threshold")} {percent(model.threshold)}
              {model.operating_point && ` (${model.operating_point})`}
            </p>
          )}
        </>
      )}
      {result.warnings.length > 0 && (
        <ul class="warnings" aria-label={say("warnings")}>
          {distinct(result.warnings.map((warning) => warning.sentence)).map((sentence) => (
            <li key={sentence}>{sentence}</li>
          ))}
        </ul>
      )}
      {unreadable.length > 0 && (
        <>
          <h3>{say("unreadable")}</h3>
          <ul class="warnings">
            {distinct(unreadable.map(([, reason]) => reason)).map((reason) => (
              <li key={reason}>{reason}</li>
            ))}
          </ul>
        </>
      )}
    </section>
  );
}

/** What is read when in doubt: classes and members of each image, the model, the deliveries. */
export function ResultDetails(props: { result: Result; me: Me; changed: () => void }) {
  const { result } = props;
  const { model, images } = result.reading;
  return (
    <>
      {images.map((image, at) => (
        <details key={`${image.sop_instance_uid}/${image.frame}`} open={at === 0}>
          <summary>
            {say("probabilities")}
            {images.length > 1 && ` – ${say("image")} ${at + 1}`}
          </summary>
          <Members image={image} result={result} />
        </details>
      ))}
      <details>
        <summary>
          {say("model")}: {result.bundle_name}
        </summary>
        <dl class="facts">
          <dt>{say("version")}</dt>
          <dd>{result.version}</dd>
          <dt>{say("readAt")}</dt>
          <dd>
            {clock(result.created_at)} {say("readIn", { seconds: number(result.seconds) })}
          </dd>
          <dt>SHA-256</dt>
          <dd class="hash">{result.bundle_sha256}</dd>
          <dt>freezeframe</dt>
          <dd>{model.software}</dd>
        </dl>
        {model.validation_sensitivity !== null && (
          <p class="quiet">
            {say("validation", {
              sensitivity: percent(model.validation_sensitivity),
              specificity: percent(model.validation_specificity),
            })}
          </p>
        )}
      </details>
      <details open={result.deliveries.some((delivery) => delivery.state === "waiting" && delivery.attempts > 0)}>
        <summary>
          {say("deliveries")} ({result.deliveries.length})
        </summary>
        <Deliveries deliveries={result.deliveries} me={props.me} changed={props.changed} />
      </details>
    </>
  );
}

function Members(props: { image: ImageReading; result: Result }) {
  const { image, result } = props;
  const { classes, positive_class: positive, threshold } = result.reading.model;
  const labels = classes.map((one) => one.label).filter((label) => label in image.probabilities);
  const named = positive ?? image.decision;
  return (
    <>
      <table class="bars">
        <caption class="hidden">{say("classes")}</caption>
        <tbody>
          {labels.map((label) => (
            <tr key={label}>
              <th scope="row">{label}</th>
              <td>
                <ProbabilityBar
                  value={image.probabilities[label] ?? null}
                  threshold={label === positive ? threshold : null}
                />
              </td>
            </tr>
          ))}
        </tbody>
      </table>
      <table class="bars">
        <caption>
          {say("members")}: {named}
        </caption>
        <tbody>
          {Object.entries(image.members).map(([member, probabilities]) => (
            <tr key={member}>
              <th scope="row">{member}</th>
              <td>
                <ProbabilityBar
                  value={probabilities[named] ?? null}
                  threshold={named === positive ? threshold : null}
                />
              </td>
            </tr>
          ))}
        </tbody>
      </table>
      <dl class="facts">
        <dt>{say("decision")}</dt>
        <dd>{image.decision}</dd>
        {image.spread !== null && (
          <>
            <dt>{say("spread")}</dt>
            <dd>{number(image.spread, 3)}</dd>
          </>
        )}
      </dl>
    </>
  );
}

function Deliveries(props: { deliveries: Delivery[]; me: Me; changed: () => void }) {
  const [problem, setProblem] = useState("");
  const [asked, setAsked] = useState<number | null>(null);
  if (props.deliveries.length === 0) return <p class="quiet">{say("noDeliveries")}</p>;
  const act = async (url: string) => {
    setProblem("");
    setAsked(null);
    try {
      await post(url);
      props.changed();
    } catch (error) {
      setProblem(say("failed", { detail: (error as Error).message }));
    }
  };
  return (
    <>
      <ul class="deliveries">
        {props.deliveries.map((delivery) => (
          <li key={delivery.id}>
            <b>{delivery.kind.toUpperCase()}</b> <span aria-hidden="true">→</span> {delivery.destination}
            <StateChip state={delivery.state} />
            {delivery.attempts > 1 && (
              <small>
                {say("attempts")}: {delivery.attempts}
              </small>
            )}
            {delivery.reason && <small class="reason">{delivery.reason}</small>}
            {props.me.role === "admin" && (delivery.state === "waiting" || delivery.state === "sent") && (
              <>
                <button type="button" class="small" onClick={() => void act(urls.retry(delivery.id))}>
                  {say("retry")}
                </button>
                {asked === delivery.id ? (
                  <>
                    <small role="alert">{say(delivery.state === "sent" ? "withholdSent" : "withholdSure")}</small>
                    <button type="button" class="small" onClick={() => void act(urls.withhold(delivery.id))}>
                      {say("withholdYes")}
                    </button>
                    <button type="button" class="small" onClick={() => setAsked(null)}>
                      {say("cancel")}
                    </button>
                  </>
                ) : (
                  <button type="button" class="small" onClick={() => setAsked(delivery.id)}>
                    {say("withhold")}
                  </button>
                )}
              </>
            )}
          </li>
        ))}
      </ul>
      {problem && (
        <p class="problem" role="alert">
          {problem}
        </p>
      )}
    </>
  );
}

function distinct(sentences: string[]): string[] {
  return [...new Set(sentences)];
}
