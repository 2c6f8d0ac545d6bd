import { createServer } from "node:http";
import { createYoga } from "graphql-yoga";
import { contextOf, schema } from "./graph.js";
import { viewerOf } from "./viewer.js";

export const listen = (address) =>
  createServer(
    createYoga({
      schema,
      graphiql: false,
      landingPage: false,
      logging: false,
      context: ({ request }) => contextOf(viewerOf(request.headers.get("authorization"))),
    }),
  ).listen(address);
