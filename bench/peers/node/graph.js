// The part of netra's graph that the workloads ask for, as one would write it by hand: one DataLoader for each kind of question and
// arguments, and one statement with a LATERAL subquery for the lists of all parents.
import DataLoader from "dataloader";
import { GraphQLScalarType } from "graphql";
import { makeExecutableSchema } from "@graphql-tools/schema";
import { rows } from "./database.js";

const typeDefs = /* GraphQL */ `
  scalar DateTime
  type Query {
    viewer: User
    thread(id: ID!): Thread
  }
  type Mutation {
    createThread(input: CreateThreadInput!): CreateThreadPayload
  }
  input CreateThreadInput {
    title: String
  }
  type CreateThreadPayload {
    thread: Thread
  }
  type User {
    id: ID!
    email: String!
    name: String
    threads(first: Int = 20): ThreadConnection
    runs(first: Int = 20): RunConnection
  }
  type Thread {
    id: ID!
    title: String
    status: String!
    createdAt: DateTime!
    messages(first: Int = 20): MessageConnection
    runs(first: Int = 20): RunConnection
  }
  type Message {
    id: ID!
    role: String!
    content: String!
    createdAt: DateTime!
  }
  type Run {
    id: ID!
    status: String!
    agentType: String
    createdAt: DateTime!
    user: User
    thread: Thread
  }
  type ThreadConnection {
    nodes: [Thread!]!
    totalCount: Int
  }
  type MessageConnection {
    nodes: [Message!]!
    totalCount: Int
  }
  type RunConnection {
    nodes: [Run!]!
  }
`;

const globalId = (kind) => (row) => Buffer.from(`${kind}:${row.id}`).toString("base64url");
const keyOf = (id) => Buffer.from(id, "base64url").toString().split(":")[1];

const columns = {
  users: "id, email, name",
  threads: "id, user_id, title, status, created_at",
  messages: "id, thread_id, role, content, created_at",
  runs: "id, thread_id, user_id, status, agent_type, created_at",
};

// What is in a thread is found by whose it is, which its indexes begin with. That is the viewer: nobody sees others' rows.
const isViewers = { thread_id: (place) => `user_id = $${place}::int AND `, user_id: () => "" };

// A page of each parent's rows of a table.
const pages = (table, parent, type, order) => ({
  name: `${table}_of_${parent}`,
  ofViewer: parent === "thread_id",
  text: `SELECT child.* FROM unnest($1::${type}[]) AS parent(key) CROSS JOIN LATERAL (
      SELECT ${columns[table]} FROM ${table} WHERE ${isViewers[parent](3)}${parent} = parent.key ORDER BY created_at ${order}, id ${order} LIMIT $2::int) AS child`,
  group: (found, keys) => {
    const lists = new Map(keys.map((key) => [key, []]));
    for (const row of found) lists.get(row[parent]).push(row);
    return keys.map((key) => lists.get(key));
  },
});

const count = (table, parent, type) => ({
  name: `count_${table}_of_${parent}`,
  ofViewer: parent === "thread_id",
  text: `SELECT ${parent} AS key, count(*)::int AS count FROM ${table} WHERE ${isViewers[parent](2)}${parent} = ANY($1::${type}[]) GROUP BY ${parent}`,
  group: (found, keys) => {
    const counts = new Map(found.map((row) => [row.key, row.count]));
    return keys.map((key) => counts.get(key) ?? 0);
  },
});

const byId = (table, type) => ({
  name: `${table}_by_id`,
  text: `SELECT ${columns[table]} FROM ${table} WHERE id = ANY($1::${type}[])`,
  group: (found, keys) => {
    const byKey = new Map(found.map((row) => [row.id, row]));
    return keys.map((key) => byKey.get(key) ?? null);
  },
});

const questions = {
  user: byId("users", "int"),
  thread: byId("threads", "uuid"),
  threadsOfUser: pages("threads", "user_id", "int", "DESC"),
  runsOfUser: pages("runs", "user_id", "int", "DESC"),
  messagesOfThread: pages("messages", "thread_id", "uuid", "ASC"),
  runsOfThread: pages("runs", "thread_id", "uuid", "DESC"),
  countThreads: count("threads", "user_id", "int"),
  countMessages: count("messages", "thread_id", "uuid"),
};

// The context of one request. A plain object: Apollo Server copies it.
export function contextOf(viewer) {
  const loaders = new Map();
  return {
    viewer,
    load(name, key, ...args) {
      const id = args.length === 0 ? name : `${name} ${args}`;
      let loader = loaders.get(id);
      if (!loader) {
        const { name: statement, text, group, ofViewer } = questions[name];
        const more = ofViewer ? [...args, viewer] : args;
        loader = new DataLoader(async (keys) => group(await rows(viewer, statement, text, [keys, ...more]), keys));
        loaders.set(id, loader);
      }
      return loader.load(key);
    },
  };
}

// A connection that reads nothing until its fields are asked for.
const connection = (list, total) => (parent, { first }) => ({ list, total, key: parent.id, first: Math.min(first, 100) });
const nodes = ({ list, key, first }, _, context) => context.load(list, key, first);
const totalCount = ({ total, key }, _, context) => context.load(total, key);
const createdAt = (row) => row.created_at;

const resolvers = {
  DateTime: new GraphQLScalarType({ name: "DateTime", serialize: (date) => date.toISOString() }),
  Query: {
    viewer: (_, __, context) => context.load("user", context.viewer),
    thread: (_, { id }, context) => context.load("thread", keyOf(id)),
  },
  Mutation: {
    createThread: async (_, { input }, { viewer }) => {
      const [thread] = await rows(
        viewer,
        "create_thread",
        `WITH thread AS (INSERT INTO threads (user_id, title) VALUES ($1::int, $2) RETURNING ${columns.threads}),
          audit AS (INSERT INTO audit_logs (user_id, action, resource_type, resource_id, response_status) SELECT $1::int, 'createThread', 'Thread', id, 200 FROM thread)
        SELECT * FROM thread`,
        [viewer, input.title],
      );
      return { thread };
    },
  },
  User: {
    id: globalId("User"),
    threads: connection("threadsOfUser", "countThreads"),
    runs: connection("runsOfUser"),
  },
  Thread: {
    id: globalId("Thread"),
    createdAt,
    messages: connection("messagesOfThread", "countMessages"),
    runs: connection("runsOfThread"),
  },
  Message: { id: globalId("Message"), createdAt },
  Run: {
    id: globalId("Run"),
    agentType: (row) => row.agent_type,
    createdAt,
    user: (row, _, context) => context.load("user", row.user_id),
    thread: (row, _, context) => context.load("thread", row.thread_id),
  },
  ThreadConnection: { nodes, totalCount },
  MessageConnection: { nodes, totalCount },
  RunConnection: { nodes },
};

export const schema = makeExecutableSchema({ typeDefs, resolvers });
