import { language, say } from "./language";

export function percent(share: number | null | undefined, digits = 1): string {
  if (share === null || share === undefined) return "–";
  return new Intl.NumberFormat(language(), {
    style: "percent",
    minimumFractionDigits: digits,
    maximumFractionDigits: digits,
  }).format(share);
}

export function number(value: number | null | undefined, digits = 1): string {
  if (value === null || value === undefined) return "–";
  return new Intl.NumberFormat(language(), { maximumFractionDigits: digits }).format(value);
}

/** A DICOM person name (PS3.5, section 6.2) as people write it: its first group, without carets. */
export function personName(name: string): string {
  return (name.split("=")[0] ?? "").replace(/\^+/g, " ").trim() || "–";
}

/** A DICOM date (YYYYMMDD) as YYYY-MM-DD, which nobody takes for another date. */
export function dicomDate(date: string): string {
  return /^\d{8}$/.test(date) ? `${date.slice(0, 4)}-${date.slice(4, 6)}-${date.slice(6)}` : date;
}

export function dicomTime(time: string): string {
  return /^\d{4}/.test(time) ? `${time.slice(0, 2)}:${time.slice(2, 4)}` : "";
}

function two(value: number): string {
  return String(value).padStart(2, "0");
}

export function clock(seconds: number): string {
  const at = new Date(1000 * seconds);
  const date = `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())}`;
  return `${date} ${two(at.getHours())}:${two(at.getMinutes())}`;
}

export function span(seconds: number): string {
  if (seconds < 90) return say("seconds", { n: Math.max(0, Math.round(seconds)) });
  if (seconds < 90 * 60) return say("minutes", { n: Math.round(seconds / 60) });
  if (seconds < 48 * 3600) return say("hours", { n: Math.round(seconds / 3600) });
  return say("days", { n: Math.round(seconds / 86400) });
}
