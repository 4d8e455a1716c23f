import type { ComponentChildren } from "preact";
import { useState } from "preact/hooks";
import { post, type Alarm, type Dashboard, type Me, type Rate } from "../api";
import { useLoaded } from "../hooks";
import { Bars, Shares, type Line } from "../parts/charts";
import { StateChip } from "../parts/chips";
import { clock, number, percent, span } from "../words/format";
import { say, saySignal } from "../words/language";

const PERIODS = [
  [30, "days30"],
  [90, "days90"],
  [365, "days365"],
] as const;

export function DashboardPage(props: { alarms: Alarm[]; me: Me; acknowledged: () => void }) {
  const [days, setDays] = useState(90);
  const loaded = useLoaded<Dashboard>(`/api/dashboard?days=${days}`);
  const data = loaded.data;
  const acknowledge = async (alarm: Alarm) => {
    await post("/api/alarms/acknowledge", { key: alarm.key });
    props.acknowledged();
  };
  return (
    <div class="dashboard">
      <div class="filters">
        <span class="periods" role="group" aria-label={say("period")}>
          {PERIODS.map(([count, words]) => (
            <button key={count} type="button" aria-pressed={days === count} onClick={() => setDays(count)}>
              {say(words)}
            </button>
          ))}
        </span>
        {data && (
          <span class="states" aria-label={say("states")}>
            {Object.entries(data.states)
              .filter(([, count]) => count > 0)
              .map(([state, count]) => (
                <span key={state}>
                  <StateChip state={state} /> <b>{count}</b>
                </span>
              ))}
          </span>
        )}
      </div>
      {props.alarms.length > 0 && (
        <ul class="alarms">
          {props.alarms.map((alarm) => (
            <li key={alarm.key}>
              <AlarmText alarm={alarm} /> <span class="quiet">{say("since", { time: clock(alarm.since) })}</span>
              {props.me.role === "admin" && (
                <button type="button" onClick={() => void acknowledge(alarm)}>
                  {say("acknowledge")}
                </button>
              )}
            </li>
          ))}
        </ul>
      )}
      {!data && !loaded.error && <p class="loading">{say("loading")}</p>}
      {!data && loaded.error && <p class="problem">{say("failed", { detail: loaded.error.message })}</p>}
      {data && <Cards data={data} />}
    </div>
  );
}

function Cards(props: { data: Dashboard }) {
  const { data } = props;
  return (
    <div class="cards">
      <Card title={say("agreement")} note={say("againstReaders")}>
        <div class="figures">
          <Figure name={say("sensitivity")} rate={data.sensitivity} />
          <Figure name={say("specificity")} rate={data.specificity} />
        </div>
        <p class="quiet">{say("feedbackBias")}</p>
      </Card>
      <Card title={say("waitingTimes")}>
        <div class="figures">
          <Waiting name={say("median")} value={data.waiting.p50} />
          <Waiting name="95 %" value={data.waiting.p95} />
          <Waiting name="99 %" value={data.waiting.p99} />
        </div>
      </Card>
      <OverTime data={data} />
      <Agreement data={data} />
      <Volumes data={data} />
      <Drift data={data} />
    </div>
  );
}

function Card(props: { title: string; note?: string; wide?: boolean; children: ComponentChildren }) {
  return (
    <section class={props.wide ? "card wide-card" : "card"}>
      <h2>{props.title}</h2>
      {props.note && <p class="quiet">{props.note}</p>}
      {props.children}
    </section>
  );
}

function Figure(props: { name: string; rate: Rate }) {
  const { value, low, high, n } = props.rate;
  return (
    <div class="figure">
      <span>{props.name}</span>
      <b>{percent(value)}</b>
      <small>
        {value === null ? say("noData") : `${percent(low)} – ${percent(high)}`} · {say("ofReviewed", { n })}
      </small>
    </div>
  );
}

function Waiting(props: { name: string; value: number | null }) {
  return (
    <div class="figure">
      <span>{props.name}</span>
      <b>{props.value === null ? "–" : span(props.value)}</b>
    </div>
  );
}

function Table(props: { heads: string[]; rows: (string | number)[][] }) {
  return (
    <details>
      <summary>{say("table")}</summary>
      <div class="scroll">
        <table class="numbers">
          <thead>
            <tr>
              {props.heads.map((head) => (
                <th key={head}>{head}</th>
              ))}
            </tr>
          </thead>
          <tbody>
            {props.rows.map((row) => (
              <tr key={row[0]}>
                {row.map((cell, at) => (
                  <td key={at}>{cell}</td>
                ))}
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </details>
  );
}

function OverTime(props: { data: Dashboard }) {
  const weeks = props.data.over_time;
  const line = (kind: "sensitivity" | "specificity"): Line => ({
    kind,
    points: weeks.flatMap((week) => {
      const { value, low, high } = week[kind];
      return value === null || low === null || high === null ? [] : [{ label: week.week, value, low, high }];
    }),
  });
  const lines = [line("sensitivity"), line("specificity")];
  if (lines.every((one) => one.points.length === 0)) {
    return (
      <Card title={say("overTime")}>
        <p class="empty">{say("noData")}</p>
      </Card>
    );
  }
  const interval = (rate: Rate) =>
    rate.value === null ? "–" : `${percent(rate.value)} (${percent(rate.low)} – ${percent(rate.high)}), n = ${rate.n}`;
  return (
    <Card title={say("overTime")}>
      <p class="legend">
        <span class="sensitivity">● {say("sensitivity")}</span> <span class="specificity">■ {say("specificity")}</span>
      </p>
      <Shares lines={lines} labels={weeks.map((week) => week.week)} title={say("overTime")} />
      <Table
        heads={[say("week"), say("sensitivity"), say("specificity")]}
        rows={weeks.map((week) => [week.week, interval(week.sensitivity), interval(week.specificity)])}
      />
    </Card>
  );
}

function Agreement(props: { data: Dashboard }) {
  const weeks = props.data.agreement;
  const reviewed = weeks.reduce((sum, week) => sum + week.reviewed, 0);
  const agreed = weeks.reduce((sum, week) => sum + week.agreed, 0);
  return (
    <Card title={say("agreementWeek")}>
      {reviewed === 0 && <p class="empty">{say("noData")}</p>}
      {reviewed > 0 && (
        <>
          <p class="legend">
            <span class="agreed">■ {say("agreed")}</span> <span class="all">■ {say("reviewed")}</span>{" "}
            <b>
              {agreed} / {reviewed} = {percent(agreed / reviewed)}
            </b>
          </p>
          <Bars
            title={say("agreementWeek")}
            bars={weeks.map((week) => ({
              label: week.week,
              total: week.reviewed,
              parts: [{ value: week.agreed, kind: "agreed" }],
            }))}
          />
          <Table
            heads={[say("week"), say("reviewed"), say("agreed")]}
            rows={weeks.map((week) => [week.week, week.reviewed, week.agreed])}
          />
        </>
      )}
    </Card>
  );
}

function Volumes(props: { data: Dashboard }) {
  const volumes = props.data.volumes;
  const total = volumes.reduce((sum, day) => sum + day.studies, 0);
  return (
    <Card title={say("volumes")}>
      {total === 0 && <p class="empty">{say("noData")}</p>}
      {total > 0 && (
        <>
          <p class="legend">
            <span class="positive">■ {say("outcome_positive")}</span>{" "}
            <span class="refused">■ {say("outcome_refused")}</span> <span class="all">■ {say("allStudies")}</span>{" "}
            <b>{total === 1 ? say("oneStudy") : say("studyCount", { count: total })}</b>
          </p>
          <Bars
            title={say("volumes")}
            bars={volumes.map((day) => ({
              label: day.day,
              total: day.studies,
              parts: [
                { value: day.positive, kind: "positive" },
                { value: day.refused, kind: "refused" },
              ],
            }))}
          />
          <Table
            heads={[say("day"), say("allStudies"), say("outcome_positive"), say("outcome_refused")]}
            rows={volumes.map((day) => [day.day, day.studies, day.positive, day.refused])}
          />
        </>
      )}
    </Card>
  );
}

function Drift(props: { data: Dashboard }) {
  const signals = props.data.drift;
  return (
    <Card title={say("drift")}>
      {signals.length === 0 && <p class="empty">{say("noData")}</p>}
      {signals.length > 0 && (
        <table class="numbers">
          <thead>
            <tr>
              <th>{say("driftName")}</th>
              <th>{say("value")}</th>
              <th>{say("limits")}</th>
              <th />
            </tr>
          </thead>
          <tbody>
            {signals.map((signal) => (
              <tr key={`${signal.bundle}: ${signal.name}`}>
                <th scope="row">
                  {saySignal(signal.name)}
                  <small>{signal.bundle}</small>
                </th>
                <td>{number(signal.value, 3)}</td>
                <td class="limits">
                  {signal.low === null && signal.high === null
                    ? "–"
                    : `${number(signal.low, 3)} – ${number(signal.high, 3)}`}
                </td>
                <td>
                  {signal.alarm ? (
                    <span class="chip chip-alarm">! {say("outOfLimits")}</span>
                  ) : (
                    <span class="quiet">{say(signal.state === "collecting" ? "noData" : "inLimits")}</span>
                  )}
                </td>
              </tr>
            ))}
          </tbody>
        </table>
      )}
    </Card>
  );
}

function AlarmText(props: { alarm: Alarm }) {
  const { key, detail, signal } = props.alarm;
  if (!signal)
    return (
      <>
        <b>{key}</b> {detail}
      </>
    );
  const values = { value: number(signal.value, 3), low: number(signal.low, 3), high: number(signal.high, 3) };
  return (
    <>
      <b>
        {signal.bundle}: {saySignal(signal.name)}
      </b>{" "}
      {say("alarmDetail", { ...values, newest: number(signal.newest, 3), usual: number(signal.usual, 3) })}
    </>
  );
}
