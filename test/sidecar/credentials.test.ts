// Tokens and TLS files: where they come from, what is refused, and what happens when they change.
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import { CredentialStore } from "../../sidecar/config/credentials.ts";
import { eventually, temporaryFolder } from "./servers.ts";

describe("credentials", () => {
  const tls = { caFile: null, certFile: null, keyFile: null, serverName: null, insecureSkipVerify: false };

  it("come from files and the environment", () => {
    const folder = temporaryFolder();
    writeFileSync(join(folder, "token"), "abc\n");
    const ca = readFileSync(fileURLToPath(new URL("../fixtures/tls/ca.pem", import.meta.url)), "utf8");
    writeFileSync(join(folder, "ca"), ca);
    const withFile = new CredentialStore({
      scheme: "https",
      tls: { ...tls, caFile: join(folder, "ca") },
      token: { file: join(folder, "token") },
    });
    expect(withFile.current).toMatchObject({ token: "abc", tls: { ca, cert: null } });
    const fromEnvironment = new CredentialStore({ scheme: "http", tls, token: { env: "T" } }, { T: "xyz" });
    expect(fromEnvironment.current).toEqual({ token: "xyz", tls: null });
  });

  it.each([
    ["a missing file", { file: "/no/such/token" }, "cannot read token file"],
    ["an unset variable", { env: "NOT_SET" }, "environment variable NOT_SET"],
    ["a token of two lines", { env: "TWO" }, "it is not a bearer token"],
  ])("are refused: %s", (_, token, expected) => {
    expect(() => new CredentialStore({ scheme: "http", tls, token }, { TWO: "a\nb" })).toThrow(expected);
  });

  it("are refused when a file holds no certificate or key", () => {
    const path = join(temporaryFolder(), "pem");
    const load = (text: string, field: object): CredentialStore => {
      writeFileSync(path, text);
      return new CredentialStore({ scheme: "https", tls: { ...tls, ...field }, token: null });
    };
    const broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    expect(() => load("nothing", { caFile: path })).toThrow("TLS files is not valid");
    expect(() => load(broken, { caFile: path })).toThrow("TLS files is not valid");
    expect(() => load("nothing", { certFile: path, keyFile: path })).toThrow("TLS files is not valid");
  });

  it("are read again when a file changes, and kept when it cannot be read", async () => {
    const path = join(temporaryFolder(), "token");
    writeFileSync(path, "one");
    const store = new CredentialStore({ scheme: "http", tls, token: { file: path } });
    let changes = 0;
    let failures = 0;
    store.watch(
      () => (changes += 1),
      () => (failures += 1),
      10,
    );
    writeFileSync(path, "");
    await eventually("the empty file was noticed", () => failures > 0);
    expect(store.current.token).toBe("one");
    writeFileSync(path, "two");
    await eventually("the new token was read", () => changes === 1);
    expect(store.current.token).toBe("two");
    store.stop();
  });
});
