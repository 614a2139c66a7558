// Whether a route mirrors bodies with KV parameters: the mirror would use them up, or read blocks that are another prompt's.
import type { Observation } from "./collect.ts";
import { error, type Finding } from "./finding.ts";
import { splicingPickers } from "./gateway-view.ts";

/** Routes under `mode: inline` that send what they carry to a second cluster too. */
export function mirrorFindings({ view }: Observation): Finding[] {
  return splicingPickers(view).flatMap(({ routes }) =>
    routes
      .filter(({ mirrors }) => mirrors.length > 0)
      .map(({ name, mirrors }) =>
        error(
          "mirrored-parameters",
          `route ${name} mirrors requests to ${mirrors.join(", ")}: bodies with KV parameters too, which are good for one use`,
          "Take request_mirror_policies off the route, its virtual host and its route configuration, or mirror from a route " +
            "whose pool disaggregates nothing.",
        ),
      ),
  );
}
