import { en, type Words } from "./en";
import { es } from "./es";

export type Language = "en" | "es";

const TABLES: Record<Language, Words> = { en, es };
const KEY = "language";

let current: Language = "en";

function known(tag: string | null | undefined): Language | null {
  const short = (tag ?? "").slice(0, 2).toLowerCase();
  return short === "en" || short === "es" ? short : null;
}

/** The user's own choice, else what the node says, else the browser's language. */
export function pickLanguage(fromNode?: string): Language {
  current = known(localStorage.getItem(KEY)) ?? known(fromNode) ?? known(navigator.language) ?? "en";
  document.documentElement.lang = current;
  return current;
}

export function chooseLanguage(chosen: Language): void {
  localStorage.setItem(KEY, chosen);
  pickLanguage();
}

export function language(): Language {
  return current;
}

export function say(key: keyof Words, values: Record<string, string | number> = {}): string {
  return TABLES[current][key].replace(/\{(\w+)\}/g, (whole, name: string) => String(values[name] ?? whole));
}

/** A state, outcome, verdict, signal or line of the audit trail in words; as it came where there are none for it. */
export function sayOf(kind: "state" | "outcome" | "verdict" | "audit" | "signal", value: string): string {
  const key = `${kind}_${value.replaceAll(" ", "_")}`;
  return key in en ? say(key as keyof Words) : value;
}

/** What drift is watched on, such as `input contrast (own)`. */
export function saySignal(name: string): string {
  const found = /^(input )?(.+) \((own|training)\)$/.exec(name);
  if (!found) return name;
  const [, input, property = "", reference = ""] = found;
  const named = input ? say("signal_input", { name: property }) : sayOf("signal", property);
  return `${named} (${sayOf("signal", reference)})`;
}
