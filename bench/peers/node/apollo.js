import { ApolloServer } from "@apollo/server";
import { startStandaloneServer } from "@apollo/server/standalone";
import { contextOf, schema } from "./graph.js";
import { viewerOf } from "./viewer.js";

export const listen = (address) =>
  startStandaloneServer(new ApolloServer({ schema }), {
    listen: address,
    context: async ({ req }) => contextOf(viewerOf(req.headers.authorization)),
  });
