import fastify from "fastify";
import mercurius from "mercurius";
import { contextOf, schema } from "./graph.js";
import { viewerOf } from "./viewer.js";

export const listen = (address) =>
  fastify()
    .register(mercurius, {
      schema,
      jit: 1, // compiles an operation from its second time on
      graphiql: false,
      context: (request) => contextOf(viewerOf(request.headers.authorization)),
    })
    .listen(address);
