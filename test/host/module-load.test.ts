// host-sim takes and refuses modules as Envoy does, and says why.
import { describe, expect, it } from "vitest";
import { createHost, HostError, VirtualClock } from "../../host-sim/host/index.ts";
import { readWasmInterface } from "../../host-sim/host/wasm-binary.ts";
import { MODULE_VARIANTS, variantBinary } from "./module-variants.ts";

async function load(bytes: Uint8Array): Promise<string> {
  try {
    await createHost({ module: bytes, clock: new VirtualClock(), plugins: [{ rootId: "r" }] });
    return "accepted";
  } catch (error) {
    if (error instanceof HostError) return error.code;
    throw error;
  }
}

describe("module loading", () => {
  for (const variant of MODULE_VARIANTS) {
    it(`${variant.accepted ? "takes" : "refuses"} a module: ${variant.name}`, async () => {
      expect(await load(variantBinary(variant))).toBe(variant.code ?? "accepted");
    });
  }

  it("names the byte at which a binary is malformed", async () => {
    const whole = variantBinary(MODULE_VARIANTS[1]!);
    expect(await load(new Uint8Array([0, 1, 2, 3]))).toBe("WASM_MALFORMED");
    for (const length of [4, 8 + 3, whole.length - 1]) {
      expect(() => readWasmInterface(whole.subarray(0, length)), `first ${length} bytes`).toThrow(
        /at byte \d+/,
      );
    }
  });
});
