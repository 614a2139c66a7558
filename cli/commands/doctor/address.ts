// Addresses on doctor's command line: a URL, or host:port, which is one over HTTP.
import { FlagError } from "../errors.ts";

const EXPECTED = "host:port or http://host:port";
const HAS_SCHEME = /^[a-z][a-z0-9+.-]*:\/\//i;
/** IPv6 stands in brackets. */
const HOST_AND_PORT = /^(?:\[[^\]/]+\]|[^:/?#[\]]+):\d{1,5}$/;

/** The base URL that a flag names, without a slash at its end. @throws FlagError */
export function addressOf(flag: string, value: string): string {
  const url = HOST_AND_PORT.test(value) ? `http://${value}` : value;
  if (!HAS_SCHEME.test(url) || !URL.canParse(url)) throw new FlagError(flag, value, EXPECTED);
  if (!/^https?:$/.test(new URL(url).protocol)) throw new FlagError(flag, value, EXPECTED);
  return url.replace(/\/+$/, "");
}

/** The control listener's place: an address, else a socket's path, with or without "unix:". @throws FlagError */
export function controlPlaceOf(value: string): string {
  const isAddress = HAS_SCHEME.test(value) || HOST_AND_PORT.test(value);
  return isAddress ? addressOf("--control", value) : value;
}
