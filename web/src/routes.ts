import { useEffect, useState } from "preact/hooks";

export type Route = { page: "worklist" } | { page: "study"; uid: string } | { page: "dashboard" } | { page: "audit" };

export const paths = {
  worklist: "/",
  study: (uid: string) => `/study/${encodeURIComponent(uid)}`,
  dashboard: "/dashboard",
  audit: "/audit",
};

function parse(path: string): Route {
  const study = /^\/study\/([0-9.]{1,64})$/.exec(path);
  if (study?.[1]) return { page: "study", uid: study[1] };
  if (path === paths.dashboard) return { page: "dashboard" };
  if (path === paths.audit) return { page: "audit" };
  return { page: "worklist" };
}

export function go(path: string): void {
  if (path === location.pathname) return;
  history.pushState(null, "", path);
  dispatchEvent(new PopStateEvent("popstate"));
}

export function useRoute(): Route {
  const [route, setRoute] = useState(() => parse(location.pathname));
  useEffect(() => {
    const look = () => setRoute(parse(location.pathname));
    addEventListener("popstate", look);
    return () => removeEventListener("popstate", look);
  }, []);
  return route;
}

/** For links: goes there without loading the page again, but leaves new tabs to the browser. */
export function follow(event: MouseEvent, path: string): void {
  if (event.ctrlKey || event.metaKey || event.shiftKey || event.button !== 0) return;
  event.preventDefault();
  go(path);
}
