import { createVerifier } from "fast-jwt";

const verify = createVerifier({ key: process.env.NETRA_SECRET, algorithms: ["HS256"], cache: true });

// The user whom a request's bearer token names. It throws when there is none.
export function viewerOf(authorization) {
  return Number(verify(authorization.slice("Bearer ".length)).sub);
}
