import { useState } from "preact/hooks";
import type { AuditEntry, Me } from "../api";
import { useLoaded } from "../hooks";
import { clock } from "../words/format";
import { say, sayOf } from "../words/language";

const PAGE = 200;

export function AuditPage(props: { me: Me }) {
  const [limit, setLimit] = useState(PAGE);
  const may = props.me.role === "admin";
  const loaded = useLoaded<{ entries: AuditEntry[] }>(may ? `/api/audit?limit=${limit}` : null);
  if (!may) return <p class="problem">{say("adminsOnly")}</p>;
  if (loaded.error && !loaded.data) return <p class="problem">{say("failed", { detail: loaded.error.message })}</p>;
  if (!loaded.data) return <p class="loading">{say("loading")}</p>;
  const { entries } = loaded.data;
  return (
    <div class="list audit">
      <table class="numbers">
        <thead>
          <tr>
            <th>#</th>
            <th>{say("time")}</th>
            <th>{say("who")}</th>
            <th>{say("what")}</th>
            <th>{say("target")}</th>
            <th>{say("auditOutcome")}</th>
            <th>{say("detail")}</th>
          </tr>
        </thead>
        <tbody>
          {entries.map((entry) => (
            <tr key={entry.id} class={`audit-${entry.outcome}`}>
              <td>{entry.id}</td>
              <td>{clock(entry.at)}</td>
              <td>{entry.who}</td>
              <td>{sayOf("audit", entry.what)}</td>
              <td class="hash">{entry.target}</td>
              <td>
                {entry.outcome === "success"
                  ? say("success")
                  : entry.outcome === "failure"
                    ? say("failure")
                    : entry.outcome}
              </td>
              <td>{entry.detail}</td>
            </tr>
          ))}
        </tbody>
      </table>
      {entries.length >= limit && (
        <button type="button" class="more" onClick={() => setLimit(limit + PAGE)}>
          {say("showMore")}
        </button>
      )}
    </div>
  );
}
