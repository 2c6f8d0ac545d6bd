/**
 * Live subscriptions to netra: the stock graphql-ws client, wired so that it never gives up, resumes where it was, and renews its token
 * without losing a stream. See README.md.
 */
import { createClient, type ExecutionResult } from 'graphql-ws';
import { Tokens, type TokenSource } from './tokens.js';

export type { TokenSource } from './tokens.js';

/** `offline` while no subscription needs a connection, and for ever after a sign-out or `dispose`. */
export type Status = 'offline' | 'connecting' | 'connected' | 'waiting';

export interface LiveOptions {
  /** Where the server is, such as `wss://api.example.com/graphql`. A function is called for each attempt. */
  url: string | (() => string | Promise<string>);
  token: TokenSource;
  /** The longest wait between two attempts, in milliseconds; 30,000 unless set. */
  maxWait?: number;
  /** Hears of every change of the connection. */
  onStatus?: (status: Status) => void;
  /** Outside browsers: a constructor like the browser's WebSocket, such as that of the package `ws`. */
  webSocketImpl?: unknown;
}

export interface Operation<Variables> {
  query: string;
  operationName?: string;
  /** May hold `after`, the cursor of an event that was received in an earlier life of the page. */
  variables?: Variables;
}

export interface Handlers<Data> {
  /** Each event, in order; `data` is null where the event failed, and `result.errors` says why. After a broken connection the last one may come once more. */
  next: (data: Data | null, result: ExecutionResult<Data>) => void;
  /**
   * Events were lost to the client: the server no longer knows its cursor. The next event is a snapshot; what else is shown has to be
   * asked for again.
   */
  onExpired?: () => void;
  /** The server refuses the operation, or there is no token any more. Nothing follows. */
  onError?: (error: LiveError) => void;
  /** The server has nothing more to say. Nothing follows. */
  onComplete?: () => void;
}

export interface Live {
  /** Begins a subscription and returns what ends it. */
  subscribe: <Data = Record<string, unknown>, Variables extends Record<string, unknown> = Record<string, unknown>>(
    operation: Operation<Variables>,
    handlers: Handlers<Data>,
  ) => () => void;
  status: () => Status;
  /**
   * Asks for a `fresh` token now and sends it over the open connection, such as after the user has signed in anew; no stream notices.
   * Without a connection it does nothing, since the next one asks for a token anyway.
   */
  renewToken: () => void;
  /** Ends all subscriptions and closes the connection. */
  dispose: () => void;
}

/** Why a subscription ended that the application did not end. */
export class LiveError extends Error {
  /** The server's `extensions.code`, `SIGNED_OUT` without a token, or `CLOSED` with the socket's close code in the message. */
  readonly code: string;
  /** What the server said of the operation; empty where it was not the operation's fault. */
  readonly errors: readonly GraphQLFailure[];

  constructor(message: string, code: string, errors: readonly GraphQLFailure[] = []) {
    super(message);
    this.name = 'LiveError';
    this.code = code;
    this.errors = errors;
  }
}

export interface GraphQLFailure {
  readonly message: string;
  readonly path?: readonly (string | number)[] | undefined;
  readonly extensions?: { readonly [key: string]: unknown } | undefined;
}

/** Codes of operations that are begun again after a while: nothing is wrong with them. */
const passing = new Set(['RATE_LIMITED', 'DATABASE_UNAVAILABLE', 'ANALYTICS_UNAVAILABLE', 'EMBEDDINGS_UNAVAILABLE', 'TIMEOUT']);

/** Close codes by which the server says that this program is at fault; beginning again would only repeat it. */
const faults = new Set([4400, 4401, 4406, 4409, 4429]);

const forbidden = 4403;
const keepAlive = 10_000; // between two pings, in ms
const pongWait = 5_000; // for the answer, before the connection is taken for dead
const lingering = 3_000; // of a connection that no subscription needs, since pages come and go
const firstWait = 500;

export function createLive(options: LiveOptions): Live {
  const maxWait = options.maxWait ?? 30_000;
  let status: Status = 'offline';
  let disposed = false;
  let socket: WebSocket | undefined;
  let overdue: ReturnType<typeof setTimeout> | undefined;
  let token: Promise<string | null> = Promise.resolve(null);
  const ends = new Set<() => void>();

  const tokens = new Tokens(options.token, (newer) => {
    if (socket?.readyState !== 1) return false;
    socket.send(JSON.stringify({ type: 'ping', payload: { authorization: `Bearer ${newer}` } }));
    return true;
  });

  const become = (now: Status) => {
    if (now === status) return;
    status = now;
    guarded(() => options.onStatus?.(now));
  };

  const client = createClient({
    // The token is asked for before there is a socket: the server closes one that says nothing for 3 s, and a token may take longer.
    url: async () => {
      token = tokens.get();
      await token.catch(() => {}); // connectionParams says so, where graphql-ws expects it
      return typeof options.url === 'function' ? options.url() : options.url;
    },
    ...(options.webSocketImpl ? { webSocketImpl: options.webSocketImpl } : {}),
    lazyCloseTimeout: lingering,
    keepAlive,
    connectionAckWaitTimeout: 10_000,
    retryAttempts: Infinity,
    shouldRetry: (problem) => !(problem instanceof SignedOut),
    retryWait: (retries) => sleep(backoff(retries, maxWait)),
    connectionParams: async () => {
      const bearer = await token;
      if (bearer === null) throw new SignedOut('there is no token');
      return { authorization: `Bearer ${bearer}` };
    },
    on: {
      connecting: () => become('connecting'),
      connected: (opened) => {
        socket = opened as WebSocket;
        tokens.accepted();
        become('connected');
      },
      ping: (received) => {
        if (received) return;
        clearTimeout(overdue);
        overdue = setTimeout(() => client.terminate(), pongWait);
      },
      pong: (received, payload) => {
        if (!received) return;
        clearTimeout(overdue);
        if (payload && 'authorized' in payload) tokens.answered(payload);
      },
      closed: (event) => {
        clearTimeout(overdue);
        socket = undefined;
        tokens.disconnected((event as CloseEvent).code === forbidden);
        become(disposed || ends.size === 0 ? 'offline' : 'waiting');
      },
    },
  });

  return {
    status: () => status,
    renewToken: () => {
      if (status === 'connected') void tokens.renew();
    },
    dispose: () => {
      disposed = true;
      for (const end of [...ends]) end();
      tokens.dispose();
      clearTimeout(overdue);
      // An attempt that was waiting for its turn is refused, as it should be.
      Promise.resolve(client.dispose()).catch(() => {});
      become('offline');
    },
    subscribe: (operation, handlers) => {
      const resumes = /\$after\b/.test(operation.query);
      let cursor = operation.variables?.['after'];
      let stop = () => {};
      let waiting: ReturnType<typeof setTimeout> | undefined;
      let failures = 0;
      let ended = disposed;
      const end = () => {
        if (ended) return;
        ended = true;
        ends.delete(end);
        clearTimeout(waiting);
        stop();
        if (ends.size === 0 && !socket) become('offline'); // graphql-ws says nothing of an attempt that it gives up
      };
      const fail = (error: LiveError) => {
        if (ended) return;
        end();
        if (error.code === 'SIGNED_OUT') become('offline');
        guarded(() => handlers.onError?.(error));
      };
      const payload = {
        query: operation.query,
        ...(operation.operationName === undefined ? {} : { operationName: operation.operationName }),
        // Read again whenever graphql-ws sends the operation: after a reconnection it goes on from the last event.
        get variables() {
          return resumes && cursor !== undefined ? { ...operation.variables, after: cursor } : operation.variables;
        },
      };
      const begin = () => {
        stop = client.subscribe(payload as { query: string }, {
          next: (result) => {
            if (ended) return;
            failures = 0;
            if ((result.extensions as Record<string, unknown> | undefined)?.['code'] === 'CURSOR_EXPIRED') guarded(() => handlers.onExpired?.());
            guarded(() => handlers.next(result.data as never, result as never));
            cursor = cursorOf(result.data) ?? cursor;
          },
          error: (problem) => {
            const [error, again] = explain(problem);
            if (ended) return;
            if (!again) return fail(error);
            waiting = setTimeout(begin, backoff(failures++, maxWait));
          },
          complete: () => {
            if (ended) return;
            end();
            guarded(() => handlers.onComplete?.());
          },
        });
      };
      if (!ended) {
        ends.add(end);
        begin();
      }
      return end;
    },
  };
}

class SignedOut extends Error {}

/** What ended a subscription of graphql-ws, and whether it is to begin again. */
function explain(problem: unknown): [LiveError, boolean] {
  if (problem instanceof SignedOut) return [new LiveError('signed out', 'SIGNED_OUT'), false];
  if (Array.isArray(problem)) {
    const errors = problem as GraphQLFailure[];
    const code = String(errors[0]?.extensions?.['code'] ?? 'UNKNOWN');
    return [new LiveError(errors[0]?.message ?? 'the operation was refused', code, errors), passing.has(code)];
  }
  const { code, reason } = (problem ?? {}) as { code?: number; reason?: string };
  return [new LiveError(`closed with ${code}: ${reason}`, 'CLOSED'), !(code !== undefined && faults.has(code))];
}

/** The cursor of an event, where the operation selects it. */
function cursorOf(data: Record<string, unknown> | null | undefined): string | undefined {
  for (const field of Object.values(data ?? {})) {
    const cursor = (field as { cursor?: unknown } | null)?.cursor;
    if (typeof cursor === 'string') return cursor;
  }
  return undefined;
}

/** A random wait that grows with each attempt: clients who lost the same server do not come back together. */
function backoff(attempt: number, most: number): number {
  return 50 + Math.random() * Math.min(most, firstWait * 2 ** Math.min(attempt, 20));
}

function sleep(milliseconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}

/** An application's mistake is reported as any other, and breaks neither the connection nor another subscription. */
function guarded(call: () => void): void {
  try {
    call();
  } catch (error) {
    setTimeout(() => {
      throw error;
    });
  }
}
