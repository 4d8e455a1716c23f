import { useCallback, useEffect, useRef, useState } from "preact/hooks";
import { ApiError, get } from "./api";

const POLL_MILLISECONDS = 5000;

export interface Loaded<T> {
  data: T | null;
  error: ApiError | null;
  reload: () => void;
}

/**
 * Load a path now, and again every few seconds while the page is seen. What was loaded stays until the next answer is
 * there, so that nothing jumps; an answer to an older path is dropped.
 */
export function useLoaded<T>(path: string | null, poll = true): Loaded<T> {
  const [held, setHeld] = useState<{ path: string | null; data: T | null; error: ApiError | null }>({
    path: null,
    data: null,
    error: null,
  });
  const [count, setCount] = useState(0);
  const latest = useRef(path);
  latest.current = path;

  useEffect(() => {
    if (path === null) return undefined;
    const stopper = new AbortController();
    let timer: ReturnType<typeof setTimeout> | undefined;
    const load = async (automatic: boolean) => {
      if (!automatic || !document.hidden) {
        try {
          const data = await get<T>(path, stopper.signal, automatic);
          if (latest.current === path) setHeld({ path, data, error: null });
        } catch (error) {
          if (stopper.signal.aborted) return;
          const known = error instanceof ApiError ? error : new ApiError(0, "");
          if (latest.current === path) {
            setHeld((before) => ({ path, data: before.path === path ? before.data : null, error: known }));
          }
        }
      }
      if (poll && !stopper.signal.aborted) timer = setTimeout(() => void load(true), POLL_MILLISECONDS);
    };
    void load(false);
    return () => {
      stopper.abort();
      clearTimeout(timer);
    };
  }, [path, poll, count]);

  const reload = useCallback(() => setCount((before) => before + 1), []);
  return { data: held.data, error: held.error, reload };
}

/** Call actions by single keys, unless someone is writing or holds another key. */
export function useKeys(actions: Record<string, () => void>): void {
  const held = useRef(actions);
  held.current = actions;
  useEffect(() => {
    const listen = (event: KeyboardEvent) => {
      // Cornerstone's tools prevent the default of every key while the radiograph has the focus: that says nothing here.
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      const target = event.target;
      if (target instanceof HTMLTextAreaElement || target instanceof HTMLSelectElement) return;
      if (target instanceof HTMLInputElement && !["range", "checkbox"].includes(target.type)) return;
      if (target instanceof HTMLInputElement && event.key.startsWith("Arrow")) return;
      const action = held.current[event.key.length === 1 ? event.key.toLowerCase() : event.key];
      if (action) {
        event.preventDefault();
        action();
      }
    };
    addEventListener("keydown", listen);
    return () => removeEventListener("keydown", listen);
  }, []);
}

/** The time now in seconds, renewed every ten. */
export function useNow(): number {
  const [now, setNow] = useState(() => Date.now() / 1000);
  useEffect(() => {
    const timer = setInterval(() => setNow(Date.now() / 1000), 10_000);
    return () => clearInterval(timer);
  }, []);
  return now;
}
