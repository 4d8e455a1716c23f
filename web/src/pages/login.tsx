import { useState } from "preact/hooks";
import { ApiError, post } from "../api";
import { say } from "../words/language";

export function LoginPage(props: { ended: boolean; loggedIn: () => Promise<void> }) {
  const [problem, setProblem] = useState("");
  const [busy, setBusy] = useState(false);

  const submit = async (event: SubmitEvent) => {
    event.preventDefault();
    const fields = new FormData(event.currentTarget as HTMLFormElement);
    setBusy(true);
    setProblem("");
    try {
      await post("/api/login", { user: fields.get("user"), password: fields.get("password") });
      await props.loggedIn();
    } catch (error) {
      setProblem(explain(error));
      setBusy(false);
    }
  };

  return (
    <main id="main" class="login">
      <form onSubmit={(event) => void submit(event)}>
        <h1>{say("logIn")}</h1>
        {props.ended && <p>{say("loggedOut")}</p>}
        <label>
          {say("user")}
          <input name="user" autocomplete="username" autocapitalize="none" required maxLength={64} />
        </label>
        <label>
          {say("password")}
          <input name="password" type="password" autocomplete="current-password" required />
        </label>
        <p class="problem" role="alert" hidden={!problem}>
          {problem}
        </p>
        <button type="submit" class="primary" disabled={busy}>
          {say("logIn")}
        </button>
      </form>
    </main>
  );
}

function explain(error: unknown): string {
  if (!(error instanceof ApiError)) return say("failed", { detail: "" });
  if (error.status === 429) return say("tooManyLogins", { seconds: error.retryAfter ?? 60 });
  if (error.status === 401) return say("wrongLogin");
  if (error.status === 0) return say("notReached");
  return say("failed", { detail: error.message });
}
