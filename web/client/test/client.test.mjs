// The client against the real server: NETRA_BIN names it, and the engines are those of NETRA_…_URL, as `netra engines -- npm test` has them.
import assert from 'node:assert/strict';
import { spawn, execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { after, before, describe, test } from 'node:test';
import { promisify } from 'node:util';
import pg from 'pg';
import { WebSocket } from 'ws';
import { createLive } from '../dist/index.js';

const netra = process.env.NETRA_BIN ?? new URL('../../../bin/netra', import.meta.url).pathname;
const patience = 120_000; // for what takes no time, on a machine that has other things to do
const watch = `subscription ($run: ID!, $after: String) {
  runStatusChanged(runId: $run, after: $after) { version snapshot cursor }
}`;

const database = `netra_client_${randomBytes(6).toString('hex')}`;
const scratch = mkdtempSync(join(tmpdir(), 'netra-client-'));
const environment = {
  ...process.env,
  NETRA_DATABASE_URL: within(process.env.NETRA_DATABASE_URL),
  NETRA_OWNER_DATABASE_URL: within(process.env.NETRA_OWNER_DATABASE_URL),
  NETRA_CLICKHOUSE_URL: within(process.env.NETRA_CLICKHOUSE_URL),
  NETRA_DATA_DIR: scratch,
  NETRA_SECRET: randomBytes(32).toString('hex'),
  NETRA_ADDR: '127.0.0.1:0',
};
const servers = new Set();
let owner;

function within(url) {
  const changed = new URL(url);
  changed.pathname = `/${database}`;
  return changed.href;
}

const run = async (...args) => (await promisify(execFile)(netra, args, { env: environment })).stdout.trim();

/** A server of its own process, once it listens. */
async function serve(address = '127.0.0.1:0') {
  const env = { ...environment, NETRA_DATA_DIR: mkdtempSync(join(scratch, 'replica-')) };
  const child = spawn(netra, ['serve', '--addr', address], { env, stdio: ['ignore', 'pipe', 'pipe'] });
  servers.add(child);
  let said = '';
  child.stderr.on('data', (text) => (said = (said + text).slice(-2000)));
  for await (const line of createInterface({ input: child.stdout })) {
    if (line.startsWith('netra: http://')) {
      return { url: `ws://${line.slice('netra: http://'.length)}/graphql`, kill: (signal) => stop(child, signal) };
    }
  }
  throw new Error(`the server ended: ${said}`);
}

async function stop(child, signal) {
  servers.delete(child);
  if (child.exitCode === null && child.signalCode === null) {
    const ended = new Promise((resolve) => child.once('exit', resolve));
    child.kill(signal);
    await ended;
  }
}

const token = (ttl = '1h') => run('token', '--email', 'ann@example.com', '--ttl', ttl);

/** A run and its global id. */
async function newRun() {
  const { rows } = await owner.query(`INSERT INTO runs (user_id, input_data) SELECT id, '{}' FROM users RETURNING id`);
  return { key: rows[0].id, id: Buffer.from(`Run:${rows[0].id}`).toString('base64url') };
}

const step = (key) =>
  owner.query(`UPDATE runs SET status = CASE status WHEN 'pending' THEN 'processing' ELSE 'pending' END WHERE id = $1`, [key]);

/** What a subscription hears, to be waited for. */
function listen(live, operation) {
  const heard = [];
  let wake = () => {};
  const take = (what) => {
    heard.push(what);
    wake();
  };
  const end = live.subscribe(operation, {
    next: (data, result) => take(result.errors ? { errors: result.errors } : data.runStatusChanged),
    onExpired: () => take('expired'),
    onError: (error) => take(error),
    onComplete: () => take('complete'),
  });
  const next = async () => {
    const deadline = Date.now() + patience;
    while (heard.length === 0) {
      assert.ok(Date.now() < deadline, 'nothing was heard');
      await new Promise((resolve) => {
        const timer = setTimeout(resolve, 1000);
        wake = () => {
          clearTimeout(timer);
          resolve();
        };
      });
    }
    return heard.shift();
  };
  return { next, heard, end };
}

function open(options) {
  const statuses = [];
  const live = createLive({ webSocketImpl: WebSocket, maxWait: 500, onStatus: (status) => statuses.push(status), ...options });
  return Object.assign(live, { statuses });
}

describe('the client', { concurrency: true }, () => {
  before(async () => {
    const admin = new pg.Client(process.env.NETRA_OWNER_DATABASE_URL);
    await admin.connect();
    await admin.query(`CREATE DATABASE ${database}`);
    await admin.end();
    await run('migrate', 'up');
    owner = new pg.Client(environment.NETRA_OWNER_DATABASE_URL);
    await owner.connect();
    await owner.query(`INSERT INTO users (email) VALUES ('ann@example.com')`);
  }, { timeout: patience * 2 });

  after(async () => {
    await Promise.all([...servers].map((child) => stop(child, 'SIGTERM')));
    await owner.end();
    const admin = new pg.Client(process.env.NETRA_OWNER_DATABASE_URL);
    await admin.connect();
    await admin.query(`DROP DATABASE ${database} WITH (FORCE)`);
    await admin.end();
    rmSync(scratch, { recursive: true });
  });

  test('a client hears the state first and then each change', async () => {
    const [server, bearer, { key, id }] = await Promise.all([serve(), token(), newRun()]);
    const live = open({ url: server.url, token: () => bearer });
    const ear = listen(live, { query: watch, variables: { run: id } });
    const state = await ear.next();
    assert.deepEqual([state.version, state.snapshot], [1, true], state.message);
    await step(key);
    const change = await ear.next();
    assert.deepEqual([change.version, change.snapshot], [2, false]);
    ear.end();
    live.dispose();
    assert.equal(live.status(), 'offline');
  });

  test('a client whose server is killed misses nothing at the next one', async () => {
    const [first, second, bearer, { key, id }] = await Promise.all([serve(), serve(), token(), newRun()]);
    let dead = false;
    const live = open({ url: () => (dead ? second.url : first.url), token: () => bearer });
    const ear = listen(live, { query: watch, variables: { run: id } });
    assert.equal((await ear.next()).version, 1);
    for (let version = 2; version <= 5; version++) {
      await step(key);
      assert.equal((await ear.next()).version, version);
    }
    dead = true;
    await first.kill('SIGKILL');
    for (let version = 6; version <= 25; version++) await step(key); // while nobody listens
    for (let version = 6; version <= 25; version++) {
      const event = await ear.next();
      assert.equal(event.version, version, 'nothing missed, nothing repeated');
      assert.equal(event.snapshot, false, 'resumed, not begun again');
    }
    live.dispose();
  });

  test('a client whose server is restarted comes back', async () => {
    const [server, bearer, { key, id }] = await Promise.all([serve(), token(), newRun()]);
    const live = open({ url: server.url, token: () => bearer });
    const ear = listen(live, { query: watch, variables: { run: id } });
    assert.equal((await ear.next()).version, 1);
    const began = Date.now();
    await server.kill('SIGTERM');
    assert.ok(Date.now() - began < 12_000);
    await step(key);
    await serve(new URL(server.url).host);
    assert.equal((await ear.next()).version, 2);
    live.dispose();
  });

  test('a client that nobody needs any more does not wait for the server', async () => {
    const [server, bearer, { id }] = await Promise.all([serve(), token(), newRun()]);
    let live;
    const waits = new Promise((resolve) => {
      live = open({ url: server.url, token: () => bearer, onStatus: (status) => status === 'waiting' && resolve() });
    });
    const ear = listen(live, { query: watch, variables: { run: id } });
    assert.equal((await ear.next()).version, 1);
    await server.kill('SIGKILL');
    await waits;
    ear.end();
    assert.equal(live.status(), 'offline');
    live.dispose();
  });

  test('a token is renewed before it ends, and no stream notices', async () => {
    const [server, { key, id }] = await Promise.all([serve(), newRun()]);
    const asked = [];
    const live = open({
      url: server.url,
      token: ({ fresh }) => {
        asked.push(fresh);
        return token('8s'); // longer than it takes to be had and used, even on a busy machine
      },
    });
    const ear = listen(live, { query: watch, variables: { run: id } });
    assert.equal((await ear.next()).version, 1);
    const began = Date.now();
    let version = 1;
    while (Date.now() - began < 18_000) { // more than two tokens last
      await step(key);
      assert.equal((await ear.next()).version, ++version);
    }
    assert.deepEqual(live.statuses, ['connecting', 'connected']);
    assert.equal(asked[0], false);
    assert.ok(asked.length >= 3 && asked.slice(1).every(Boolean), String(asked));
    live.dispose();
  });

  test('a token is had before a socket is opened, which the server would not keep waiting', async () => {
    const [server, bearer, { id }] = await Promise.all([serve(), token(), newRun()]);
    const order = [];
    const live = open({
      url: () => {
        order.push('address');
        return server.url;
      },
      token: async () => {
        order.push('token asked');
        await new Promise(setImmediate);
        order.push('token had');
        return bearer;
      },
    });
    assert.equal((await listen(live, { query: watch, variables: { run: id } }).next()).version, 1);
    assert.deepEqual(order, ['token asked', 'token had', 'address']);
    live.dispose();
  });

  test('a token that the application renews is taken over the open connection', async () => {
    const [server, bearer, { key, id }] = await Promise.all([serve(), token(), newRun()]);
    const asked = [];
    let answer;
    const answered = new Promise((resolve) => (answer = resolve));
    class Overheard extends WebSocket {
      constructor(...args) {
        super(...args);
        this.on('message', (data) => {
          const { type, payload } = JSON.parse(data);
          if (type === 'pong' && payload) answer(payload);
        });
      }
    }
    const live = open({
      url: server.url,
      webSocketImpl: Overheard,
      token: ({ fresh }) => {
        asked.push(fresh);
        return fresh ? token('2h') : bearer;
      },
    });
    const ear = listen(live, { query: watch, variables: { run: id } });
    live.renewToken(); // there is no connection yet, and so nothing to renew
    assert.equal((await ear.next()).version, 1);
    live.renewToken();
    const { authorized, expires } = await answered;
    assert.equal(authorized, true);
    assert.ok(new Date(expires) > Date.now() + 90 * 60_000, expires);
    await step(key);
    assert.equal((await ear.next()).version, 2);
    assert.deepEqual(live.statuses, ['connecting', 'connected']);
    assert.deepEqual(asked, [false, true]);
    live.dispose();
  });

  test('a refused token is replaced', async () => {
    const [server, bearer, { id }] = await Promise.all([serve(), token(), newRun()]);
    const asked = [];
    const live = open({
      url: server.url,
      token: ({ fresh }) => {
        asked.push(fresh);
        return fresh ? bearer : 'forged';
      },
    });
    assert.equal((await listen(live, { query: watch, variables: { run: id } }).next()).version, 1);
    assert.deepEqual(asked, [false, true]);
    live.dispose();
  });

  test('without a token everything ends, and a token that cannot be had now is asked for again', async () => {
    const [server, bearer, { id }] = await Promise.all([serve(), token(), newRun()]);
    const nobody = open({ url: server.url, token: () => null });
    const told = await listen(nobody, { query: watch, variables: { run: id } }).next();
    assert.equal(told.code, 'SIGNED_OUT');
    nobody.dispose();

    let failures = 3;
    const live = open({
      url: server.url,
      token: async () => {
        if (failures-- > 0) throw new Error('no network');
        return bearer;
      },
    });
    assert.equal((await listen(live, { query: watch, variables: { run: id } }).next()).version, 1);
    live.dispose();
  });

  test('a cursor that the server does not know is told, and a snapshot follows', async () => {
    const [server, bearer, { key, id }] = await Promise.all([serve(), token(), newRun()]);
    const live = open({ url: server.url, token: () => bearer });
    const ear = listen(live, { query: watch, variables: { run: id } });
    const { cursor } = await ear.next();
    const raw = Buffer.from(cursor, 'base64url');
    raw[5] ^= 1; // of another database
    await step(key);
    const other = listen(live, { query: watch, variables: { run: id, after: raw.toString('base64url') } });
    assert.equal(await other.next(), 'expired');
    const event = await other.next();
    assert.equal(event.version, 2);
    assert.equal(event.snapshot, true);
    live.dispose();
  });

  test('an operation that is wrong ends alone', async () => {
    const [server, bearer, { id }] = await Promise.all([serve(), token(), newRun()]);
    const live = open({ url: server.url, token: () => bearer });
    const good = listen(live, { query: watch, variables: { run: id } });
    assert.equal((await good.next()).version, 1);
    for (const [operation, code] of [
      [{ query: 'subscription { nothing }' }, 'GRAPHQL_VALIDATION_FAILED'],
      [{ query: watch, variables: { run: 'UnVuOng' } }, 'BAD_USER_INPUT'],
    ]) {
      const told = await listen(live, operation).next();
      assert.equal(told.code, code, told.message);
      assert.ok(told.errors.length > 0);
    }
    assert.deepEqual(live.statuses, ['connecting', 'connected']);
    live.dispose();
  });

  test('a network that swallows everything is noticed, and the stream goes on elsewhere', async () => {
    const [server, bearer, { key, id }] = await Promise.all([serve(), token(), newRun()]);
    const { hostname, port } = new URL(server.url);
    let swallowing = false;
    const guests = new Set();
    const tunnel = createServer((guest) => {
      const host = connect(Number(port), hostname);
      guests.add(guest);
      guest.on('data', (data) => swallowing || host.write(data)).on('error', () => {}).on('close', () => host.destroy());
      host.on('data', (data) => swallowing || guest.write(data)).on('error', () => {});
    });
    await new Promise((resolve) => tunnel.listen(0, '127.0.0.1', resolve));
    let url = `ws://127.0.0.1:${tunnel.address().port}/graphql`;
    const live = open({ url: () => url, token: () => bearer });
    const ear = listen(live, { query: watch, variables: { run: id } });
    assert.equal((await ear.next()).version, 1);
    swallowing = true;
    url = server.url;
    await step(key);
    assert.equal((await ear.next()).version, 2);
    live.dispose();
    for (const guest of guests) guest.destroy();
    tunnel.close();
  });
});
