/** The node's JSON API, typed; what it answers is never taken for HTML. */

export type Role = "viewer" | "reader" | "admin" | "sender";
export type Outcome = "positive" | "negative" | "refused";
export type Verdict = "agree" | "disagree" | "correct";

export interface Me {
  user: string;
  role: Role;
  language: string;
  csrf_token: string;
}

export interface Alarm {
  key: string;
  since: number;
  detail: string;
  /** Where it is of drift. */
  signal?: {
    bundle: string;
    name: string;
    value: number | null;
    low: number | null;
    high: number | null;
    usual: number | null;
    newest: number | null;
  };
}

export interface NodeState {
  ae_title: string;
  shadow: boolean;
  language: string;
  version: string;
  bundles: { name: string; classes: string[]; positive_class: string | null }[];
  alarms: Alarm[];
}

export interface StudySummary {
  study_uid: string;
  patient_name: string;
  patient_id: string;
  patient_sex: string;
  patient_birth_date: string;
  accession_number: string;
  study_date: string;
  study_time: string;
  description: string;
  modalities: string[] | string;
  state: string;
  version: number;
  images: number;
  received_at: number | null;
  outcome: Outcome | null;
  probability: number | null;
  positive_class: string | null;
  /** Threshold of the operating point, where the node says it. */
  threshold?: number | null;
  bundle: string | null;
  warnings: number;
  feedback: Verdict | null;
  reason: string;
}

export interface StudyImage {
  sop_instance_uid: string;
  series_uid: string;
  rows: number | null;
  columns: number | null;
  frames: number | null;
  available: boolean;
}

export interface ImageReading {
  sop_instance_uid: string;
  frame: number;
  rows: number;
  columns: number;
  probabilities: Record<string, number>;
  calibrated: Record<string, number>;
  members: Record<string, Record<string, number>>;
  decision: string;
  positive: boolean;
  spread: number | null;
  heat_map: string | null;
  region: { points: [number, number][] } | null;
}

export interface Reading {
  model: {
    name: string;
    sha256: string;
    software: string;
    members: number;
    classes: { label: string }[];
    positive_class: string | null;
    operating_point: string | null;
    threshold: number | null;
    validation_sensitivity: number | null;
    validation_specificity: number | null;
  };
  images: ImageReading[];
  unreadable: [string, string][];
}

export interface Delivery {
  id: number;
  destination: string;
  kind: string;
  state: string;
  attempts: number;
  reason: string;
  done_at: number | null;
}

export interface Result {
  id: number;
  version: number;
  current: boolean;
  bundle: string;
  bundle_name: string;
  bundle_sha256: string;
  outcome: Outcome;
  probability: number | null;
  created_at: number;
  seconds: number;
  reading: Reading;
  warnings: { sop_instance_uid: string; key: string; sentence: string }[];
  feedback: { user: string; verdict: Verdict; label: string; remark: string; at: number }[];
  deliveries: Delivery[];
}

export interface Study {
  study: StudySummary;
  images: StudyImage[];
  results: Result[];
  previous: StudySummary[];
  job: { id: number; state: string; attempts: number; reason: string } | null;
}

export interface Pixels {
  rows: number;
  columns: number;
  frames: number;
  bits: 8 | 16;
  channels: 1 | 3;
  window_center: number | null;
  window_width: number | null;
  pixel_spacing: [number, number] | null;
}

export interface Rate {
  value: number | null;
  low: number | null;
  high: number | null;
  n: number;
}

export interface Dashboard {
  volumes: { day: string; studies: number; positive: number; refused: number }[];
  waiting: { p50: number | null; p95: number | null; p99: number | null };
  agreement: { week: string; reviewed: number; agreed: number }[];
  sensitivity: Rate;
  specificity: Rate;
  over_time: { week: string; sensitivity: Rate; specificity: Rate }[];
  states: Record<string, number>;
  drift: {
    bundle: string;
    name: string;
    state: string;
    value: number | null;
    low: number | null;
    high: number | null;
    alarm: boolean;
  }[];
}

export interface AuditEntry {
  id: number;
  at: number;
  who: string;
  what: string;
  target: string;
  outcome: string;
  detail: string;
}

export class ApiError extends Error {
  constructor(
    readonly status: number,
    detail: string,
    readonly retryAfter: number | null = null,
  ) {
    super(detail);
  }
}

let csrfToken = "";
let language = "en";
let onLoggedOut: () => void = () => undefined;

export function setCsrfToken(token: string): void {
  csrfToken = token;
}

/** Sentences that the node writes come in this language where it has them. */
export function setApiLanguage(chosen: string): void {
  language = chosen;
}

export function whenLoggedOut(callback: () => void): void {
  onLoggedOut = callback;
}

export async function request(path: string, options: RequestInit = {}): Promise<Response> {
  let answer: Response;
  try {
    answer = await fetch(path, {
      credentials: "same-origin",
      cache: "no-store",
      ...options,
      headers: { "Accept-Language": language, ...options.headers },
    });
  } catch (error) {
    if (error instanceof DOMException && error.name === "AbortError") throw error;
    throw new ApiError(0, "");
  }
  if (answer.ok) return answer;
  if (answer.status === 401 && path !== "/api/login" && path !== "/api/me") onLoggedOut();
  throw new ApiError(answer.status, await detailOf(answer), Number(answer.headers.get("Retry-After")) || null);
}

async function detailOf(answer: Response): Promise<string> {
  try {
    const body: unknown = await answer.json();
    const detail = (body as { detail?: unknown }).detail;
    return typeof detail === "string" ? detail : "";
  } catch {
    return "";
  }
}

/** What a page asks by itself does not keep a session from ending for want of use: the node is told so. */
export async function get<T>(path: string, signal: AbortSignal | null = null, automatic = false): Promise<T> {
  const answer = await request(path, { signal, headers: automatic ? { "X-Automatic": "1" } : {} });
  return (await answer.json()) as T;
}

export async function post<T>(path: string, body: unknown = {}): Promise<T | null> {
  const answer = await request(path, {
    method: "POST",
    headers: { "Content-Type": "application/json", "X-CSRF-Token": csrfToken },
    body: JSON.stringify(body),
  });
  const text = await answer.text();
  return text ? (JSON.parse(text) as T) : null;
}

export const urls = {
  study: (uid: string) => `/api/studies/${encodeURIComponent(uid)}`,
  rerun: (uid: string) => `/api/studies/${encodeURIComponent(uid)}/rerun`,
  image: (uid: string) => `/api/images/${encodeURIComponent(uid)}`,
  frame: (uid: string, frame: number) => `/api/images/${encodeURIComponent(uid)}/frames/${frame}`,
  heatMap: (result: number, uid: string, frame: number) =>
    `/api/results/${result}/heat-maps/${encodeURIComponent(uid)}/${frame}`,
  feedback: (result: number) => `/api/results/${result}/feedback`,
  retry: (delivery: number) => `/api/deliveries/${delivery}/retry`,
  withhold: (delivery: number) => `/api/deliveries/${delivery}/withhold`,
};
