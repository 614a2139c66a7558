// `epp-wasm doctor` on the command line: addresses as people write them.
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { Command } from "commander";
import { afterEach, describe, expect, it, onTestFinished, vi } from "vitest";
import { addDoctor } from "../../cli/commands/doctor.ts";

/** Runs the command with these flags. @returns what it printed */
async function run(...flags: string[]): Promise<string> {
  const output = vi.spyOn(process.stdout, "write").mockReturnValue(true);
  onTestFinished(() => output.mockRestore());
  const program = new Command().exitOverride();
  addDoctor(program);
  await program.parseAsync(["doctor", ...flags], { from: "user" });
  return output.mock.calls.map(([text]) => String(text)).join("");
}

/** A server that is an Envoy without listeners, a sidecar and a control listener. */
async function startServer(): Promise<{ port: number; paths: string[] }> {
  const paths: string[] = [];
  const server = createServer(({ url = "" }, response) => {
    paths.push(url);
    response.end(JSON.stringify({ version: "x/1.40.0/y", configs: [], stats: [], pools: [] }));
  });
  await new Promise<void>((settle) => server.listen(0, "127.0.0.1", settle));
  onTestFinished(() => void server.close());
  return { port: (server.address() as AddressInfo).port, paths };
}

afterEach(() => {
  process.exitCode = undefined;
});

describe("doctor's addresses", () => {
  it.each<[string, (port: number) => string]>([
    ["host:port", (port) => `127.0.0.1:${port}`],
    ["a name and a port", (port) => `localhost:${port}`],
    ["a URL", (port) => `http://127.0.0.1:${port}`],
    ["a URL that ends in /", (port) => `http://127.0.0.1:${port}/`],
  ])("may be %s, all three of them", async (_, addressOf) => {
    const { port, paths } = await startServer();
    const address = addressOf(port);
    const printed = await run("--admin", address, "--sidecar", address, "--control", address);
    expect(printed).toContain("Envoy 1.40.0: ");
    expect(new Set(paths.map((path) => path.split("?")[0]))).toEqual(
      new Set(["/server_info", "/config_dump", "/stats", "/readyz", "/status"]),
    );
  });

  it.each([
    ["--admin", "9901"],
    ["--admin", "localhost"],
    ["--admin", ":9901"],
    ["--admin", "host:99999"],
    ["--admin", "ftp://host:9901"],
    ["--admin", "http://"],
    ["--admin", ""],
    ["--sidecar", "/readyz"],
    ["--control", "http://host:x"],
  ])("%s %j is refused, and what was expected is said", async (flag, value) => {
    await expect(run(flag, value)).rejects.toThrow(`${flag}: ${JSON.stringify(value)}: expected `);
    await expect(run(flag, value)).rejects.toThrow(/host:port or http:\/\/host:port/);
  });
});
