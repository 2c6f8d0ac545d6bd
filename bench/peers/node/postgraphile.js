import { createServer } from "node:http";
import { postgraphile } from "postgraphile";
import { makePgService } from "postgraphile/adaptors/pg";
import { grafserv } from "postgraphile/grafserv/node";
import { PostGraphileAmberPreset } from "postgraphile/presets/amber";
import { viewerOf } from "./viewer.js";

const preset = {
  extends: [PostGraphileAmberPreset],
  pgServices: [makePgService({ connectionString: process.env.DATABASE_URL, schemas: ["public"] })],
  grafserv: { graphqlPath: "/graphql", graphiql: false, watch: false },
  grafast: {
    explain: false,
    context: ({ node }) => ({
      pgSettings: { "netra.user_id": String(viewerOf(node.req.headers.authorization)), "netra.superuser": "off" },
    }),
  },
};

export async function listen(address) {
  const server = createServer();
  const graph = postgraphile(preset).createServ(grafserv);
  await graph.addTo(server);
  await graph.ready();
  server.listen(address);
}
