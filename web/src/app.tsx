import { useCallback, useEffect, useState } from "preact/hooks";
import { ApiError, get, post, setApiLanguage, setCsrfToken, whenLoggedOut, type Me, type NodeState } from "./api";
import { useLoaded } from "./hooks";
import { AuditPage } from "./pages/audit";
import { DashboardPage } from "./pages/dashboard";
import { LoginPage } from "./pages/login";
import { StudyPage } from "./pages/study";
import { WorklistPage } from "./pages/worklist";
import { follow, paths, useRoute } from "./routes";
import { chooseLanguage, language, pickLanguage, say, type Language } from "./words/language";

type Session = { kind: "asking" } | { kind: "out"; ended: boolean } | { kind: "in"; me: Me };

export function App() {
  const [session, setSession] = useState<Session>({ kind: "asking" });
  const [, setChosen] = useState(pickLanguage);

  const ask = useCallback(async () => {
    try {
      const me = await get<Me>("/api/me");
      setCsrfToken(me.csrf_token);
      setChosen(pickLanguage(me.language));
      setSession({ kind: "in", me });
    } catch (error) {
      const unknown = error instanceof ApiError && error.status === 401;
      setSession({ kind: "out", ended: false });
      if (!unknown) setTimeout(() => void ask(), 5000);
    }
  }, []);

  useEffect(() => {
    whenLoggedOut(() => setSession((before) => ({ kind: "out", ended: before.kind === "in" })));
    void ask();
  }, [ask]);

  setApiLanguage(language());
  const choose = (chosen: Language) => {
    chooseLanguage(chosen);
    setChosen(chosen);
  };

  if (session.kind === "asking") return <p class="loading">{say("loading")}</p>;
  if (session.kind === "out") {
    return (
      <div class="shell">
        <header class="bar">
          <Brand />
          <span class="gap" />
          <LanguageChoice choose={choose} />
        </header>
        <Notice shadow={false} />
        <LoginPage ended={session.ended} loggedIn={ask} />
      </div>
    );
  }
  return (
    <Inside key={language()} me={session.me} choose={choose} leave={() => setSession({ kind: "out", ended: false })} />
  );
}

function Inside(props: { me: Me; choose: (chosen: Language) => void; leave: () => void }) {
  const route = useRoute();
  const node = useLoaded<NodeState>("/api/node");
  const { me } = props;
  const leave = async () => {
    try {
      await post("/api/logout");
    } finally {
      props.leave();
    }
  };
  const link = (path: string, words: string, here: boolean) => (
    <a href={path} aria-current={here ? "page" : undefined} onClick={(event) => follow(event, path)}>
      {words}
    </a>
  );
  const alarms = node.data?.alarms.length ?? 0;
  return (
    <div class={`shell shell-${route.page}`}>
      <a class="skip" href="#main">
        {say("skip")}
      </a>
      <header class="bar">
        <Brand title={node.data?.ae_title} />
        <nav>
          {link(paths.worklist, say("worklist"), route.page === "worklist" || route.page === "study")}
          {link(paths.dashboard, say("dashboard"), route.page === "dashboard")}
          {me.role === "admin" && link(paths.audit, say("audit"), route.page === "audit")}
        </nav>
        {alarms > 0 && (
          <a class="chip chip-alarm" href={paths.dashboard} onClick={(event) => follow(event, paths.dashboard)}>
            {alarms === 1 ? say("oneAlarm") : say("alarms", { count: alarms })}
          </a>
        )}
        <span class="gap" />
        <span class="who">{me.user}</span>
        <LanguageChoice choose={props.choose} />
        <button type="button" onClick={() => void leave()}>
          {say("logOut")}
        </button>
      </header>
      <Notice shadow={node.data?.shadow ?? false} />
      {node.error && node.error.status !== 401 && (
        <p class="problem" role="alert">
          {say("notReached")}
        </p>
      )}
      <main id="main" tabIndex={-1}>
        {route.page === "worklist" && <WorklistPage me={me} />}
        {route.page === "study" && <StudyPage key={route.uid} uid={route.uid} me={me} />}
        {route.page === "dashboard" && (
          <DashboardPage alarms={node.data?.alarms ?? []} me={me} acknowledged={node.reload} />
        )}
        {route.page === "audit" && <AuditPage me={me} />}
      </main>
    </div>
  );
}

function Brand(props: { title?: string | undefined }) {
  return <span class="brand">freezeframe{props.title && <small>{props.title}</small>}</span>;
}

/** Always there, on each page and in each language. */
function Notice(props: { shadow: boolean }) {
  return (
    <p class="notice" role="note">
      <strong>{say("notVerified")}</strong>
      <span>{say("researchUse")}</span>
      {props.shadow && <span class="shadow-mode">{say("shadow")}</span>}
    </p>
  );
}

function LanguageChoice(props: { choose: (chosen: Language) => void }) {
  const button = (chosen: Language, words: string) => (
    <button
      type="button"
      lang={chosen}
      title={words}
      aria-label={words}
      aria-pressed={language() === chosen}
      onClick={() => props.choose(chosen)}
    >
      {chosen.toUpperCase()}
    </button>
  );
  return (
    <span class="languages" role="group" aria-label={say("language")}>
      {button("en", "English")}
      {button("es", "Español")}
    </span>
  );
}
