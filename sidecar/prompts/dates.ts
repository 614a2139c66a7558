// Whether a template's text holds the present date or time, which will be another one soon.

const DAY_MS = 86_400_000;
/** A server's date, in whichever time zone, is within a day of ours; its clock may be off. */
const DAYS_OFF = [-2, -1, 0, 1, 2];
const MONTHS = [
  ...["January", "February", "March", "April", "May", "June", "July", "August"],
  ...["September", "October", "November", "December"],
];
const WEEKDAYS = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];
/** A time of day, "9:05" or "21:05:33". No fixed text of a template is known to have one. */
const TIME_OF_DAY = /(?<!\d)([01]?\d|2[0-3])[:h][0-5]\d(?!\d)/;
/** Seconds since 1970, or milliseconds. */
const UNIX_TIME = /(?<!\d)(\d{10}|\d{13})(?:\.\d+)?(?!\d)/g;
const UNIX_TIME_OFF_SECONDS = 2 * 86_400;

/**
 * @param nowMs ms since 1970
 * @returns true for a date of these days in any common form (year first, day first, month first; months as numbers, in
 * full or by three letters; month and day, or month and year), a time of day, or a time since 1970
 */
export function holdsPresent(literal: Uint8Array, nowMs: number): boolean {
  const text = Buffer.from(literal).toString("utf8");
  if (TIME_OF_DAY.test(text)) return true;
  for (const [, digits] of text.matchAll(UNIX_TIME)) {
    const seconds = Number(digits!.slice(0, 10));
    if (Math.abs(seconds - nowMs / 1_000) < UNIX_TIME_OFF_SECONDS) return true;
  }
  const words = text.toLowerCase();
  return DAYS_OFF.some((days) => formsOf(new Date(nowMs + days * DAY_MS)).some((form) => form.test(words)));
}

/** Forms of one day, for text in lower case. */
function formsOf(day: Date): RegExp[] {
  const [year, month, date] = [day.getUTCFullYear(), day.getUTCMonth() + 1, day.getUTCDate()];
  const name = MONTHS[month - 1]!.toLowerCase();
  const named = `(?:${name}|${name.slice(0, 3)}\\.?)`;
  const [m, d] = [`0?${month}`, `0?${date}`];
  const ordinal = `${d}(?:st|nd|rd|th|\\.)?`;
  const yy = `(?:${year}|'?${String(year % 100).padStart(2, "0")})`;
  const gap = "[\\s,/._-]+";
  const weekday = WEEKDAYS[day.getUTCDay()]!.toLowerCase();
  const dayMonth = `${ordinal}(?:${gap}|\\s+of\\s+)?${named}`;
  const monthDay = `${named}${gap}(?:the\\s+)?${ordinal}`;
  const numbers = `${year}[-/._]?(?:${m}[-/._]${d}|${two(month)}${two(date)})`;
  return [
    numbers,
    `${d}[-/._]${m}[-/._]${yy}`,
    `${m}[-/._]${d}[-/._]${yy}`,
    `${year}[-/.]${m}`,
    `${m}[-/.]${year}`,
    `${two(date)}${two(month)}${year}`,
    `${two(month)}${two(date)}${year}`,
    `${dayMonth}${gap}${yy}`,
    `${monthDay}${gap}${yy}`,
    // Without a year; not with another one.
    `(?:${dayMonth}|${monthDay})(?!${gap}\\d{4})`,
    `${named}${gap}${year}`,
    `${year}${gap}${named}`,
    `${year}年\\s*${m}月(?:\\s*\\d{1,2}日)?`,
    `${year}년\\s*${m}월`,
    `(?:today|now|date)[^\\n]{0,20}${weekday}`,
  ].map((form) => new RegExp(`(?<![\\p{L}\\d])(?:${form})(?![\\p{L}\\d])`, "u"));
}

function two(value: number): string {
  return String(value).padStart(2, "0");
}
