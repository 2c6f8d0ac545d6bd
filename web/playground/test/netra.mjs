// Starts what the browser tests and the screenshot look at: a netra in development mode, replicas beside it, and Debian's Chromium.
import { execFile, spawn } from 'node:child_process';
import { chmod, mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { parseEnv, promisify } from 'node:util';
import pg from 'pg';
import { chromium } from 'playwright-core';

// The first start makes both databases and fills them.
const startLimit = 400_000;
const stopLimit = 30_000;

/** For what takes no time, on a machine that has other things to do. */
export const patience = 120_000;

const binary = process.env.NETRA_BIN ?? fileURLToPath(new URL('../../../bin/netra', import.meta.url));

/** Gives the address of the server named by NETRA_PLAYGROUND_URL, or starts NETRA_BIN with data of its own in `dataDir`. */
export async function startNetra() {
  const url = process.env.NETRA_PLAYGROUND_URL;
  if (url) return { url: url.replace(/\/$/, ''), stop: async () => {} };

  const dataDir = await mkdtemp(join(tmpdir(), 'netra-playground-'));
  await chmod(dataDir, 0o755); // PostgreSQL runs as another user when this is root
  const child = spawn(binary, ['dev'], {
    env: { ...process.env, NETRA_ADDR: '127.0.0.1:0', NETRA_DATA_DIR: dataDir },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const exited = new Promise((resolve) => child.once('exit', resolve).once('error', resolve));

  async function stop() {
    child.kill('SIGTERM');
    const impatience = setTimeout(() => child.kill('SIGKILL'), stopLimit);
    await exited;
    clearTimeout(impatience);
    // Whatever the server may have left behind holds these open, and would hold up the end of the tests.
    child.stdout.destroy();
    child.stderr.destroy();
    await rm(dataDir, { recursive: true, force: true });
  }

  let output = '';
  const ready = new Promise((resolve, reject) => {
    const read = (chunk) => {
      output += chunk;
      // Other addresses appear while the engines start; the server's own stands on the line that ends with it.
      const address = /http:\/\/127\.0\.0\.1:\d+(?=\/?\s*\n)/.exec(output)?.[0];
      if (address) resolve(address);
    };
    child.stdout.on('data', read);
    child.stderr.on('data', read);
    child.once('error', reject);
    child.once('exit', (code) => reject(new Error(`${binary} dev ended with ${code}:\n${output}`)));
    setTimeout(() => reject(new Error(`${binary} dev was not ready in time:\n${output}`)), startLimit).unref();
  });
  try {
    return { url: await ready, dataDir, stop };
  } catch (error) {
    await stop();
    throw error;
  }
}

/** What happens to a netra that startNetra has started: replicas that come and go, and agents' writes. */
export class Outside {
  #replicas = new Set();

  static async of({ dataDir }) {
    const outside = new Outside();
    outside.env = {
      ...process.env,
      ...parseEnv(await readFile(join(dataDir, 'dev.env'), 'utf8')),
      NETRA_SECRET: process.env.NETRA_SECRET ?? (await readFile(join(dataDir, 'secret'), 'utf8')).trim(),
    };
    outside.dataDir = dataDir;
    outside.database = new pg.Client({ connectionString: outside.env.NETRA_OWNER_DATABASE_URL, options: '-c netra.superuser=on' });
    await outside.database.connect();
    return outside;
  }

  /** A replica once it listens; it offers no demo users. */
  async serve(address = '127.0.0.1:0') {
    const dataDir = await mkdtemp(join(this.dataDir, 'replica-'));
    const child = spawn(binary, ['serve', '--addr', address], { env: { ...this.env, NETRA_DATA_DIR: dataDir }, stdio: ['ignore', 'pipe', 'pipe'] });
    let said = '';
    child.stderr.on('data', (text) => (said = (said + text).slice(-2000)));
    const exited = new Promise((resolve) => child.once('exit', resolve));
    const replica = {
      kill: async () => {
        this.#replicas.delete(replica);
        child.kill('SIGKILL');
        await exited;
      },
    };
    this.#replicas.add(replica);
    for await (const line of createInterface({ input: child.stdout })) {
      if (line.startsWith('netra: http://')) return Object.assign(replica, { url: line.slice('netra: '.length), address: line.slice('netra: http://'.length) });
    }
    throw new Error(`the replica ended: ${said}`);
  }

  async token(email, ttl = '1h') {
    const { stdout } = await promisify(execFile)(binary, ['token', '--email', email, '--ttl', ttl], { env: this.env });
    return stdout.trim();
  }

  /** A run that the simulated agents leave alone, since it has ended. */
  async newRun(email) {
    const { rows } = await this.database.query(
      `INSERT INTO runs (user_id, status, input_data) SELECT id, 'completed', '{}' FROM users WHERE email = $1 RETURNING id`,
      [email],
    );
    return { key: rows[0].id, id: Buffer.from(`Run:${rows[0].id}`).toString('base64url') };
  }

  /** The run's next version. */
  async step({ key }) {
    await this.database.query(`UPDATE runs SET status = CASE status WHEN 'failed' THEN 'completed' ELSE 'failed' END WHERE id = $1`, [key]);
  }

  async stop() {
    await Promise.all([...this.#replicas].map((replica) => replica.kill()));
    await this.database.end();
  }
}

/** Chromium without its own calls home: they would fail on a closed network. */
export function startBrowser() {
  return chromium.launch({
    executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
    args: [
      '--no-sandbox',
      '--disable-gpu',
      '--disable-quic',
      '--no-first-run',
      '--disable-background-networking',
      '--disable-component-update',
      '--disable-sync',
    ],
  });
}

/** What a person does on the page. */
export class Playground {
  constructor(page) {
    this.page = page;
    this.execute = page.locator('.graphiql-execute-button');
    this.subscription = page.getByRole('status', { name: 'Subscription' });
  }

  async open(url) {
    await this.page.goto(url);
    await this.page.getByRole('tab').first().waitFor();
    await this.page.locator('.graphiql-query-editor .monaco-editor').waitFor();
    await this.page.locator('[data-health=ready]').waitFor();
  }

  /** Signs in as the user of that e-mail address; an empty one signs out. */
  async signIn(email) {
    await this.page.getByLabel('Signed in as').selectOption(email);
  }

  tab(title) {
    return this.page.getByRole('tab', { name: new RegExp(`^${title}`) });
  }

  async openTab(title) {
    await this.tab(title).click();
    // GraphiQL reads the operation's name a moment after the text, and stores the text at that instant.
    await this.page.waitForFunction((name) => localStorage.getItem('graphiql:query')?.includes(` ${name}`), title);
  }

  /** Runs what the open tab holds and gives the first answer. */
  async run() {
    await this.execute.click();
    return this.response();
  }

  /** Waits for an answer in the result pane that satisfies the condition. */
  async response(condition = () => true) {
    const deadline = Date.now() + patience;
    let text = '';
    while (Date.now() < deadline) {
      text = await this.model('response.json');
      if (text) {
        const response = JSON.parse(text);
        if (condition(response)) return response;
      }
      await this.page.evaluate(() => new Promise(requestAnimationFrame));
    }
    throw new Error(`no such answer came; the last was: ${text || 'none'}`);
  }

  /** Waits until the result pane is empty and nothing runs. */
  async ended() {
    await this.page.getByRole('button', { name: /^Execute/ }).waitFor();
    await this.page.waitForFunction(
      () => !globalThis.__MONACO.editor.getModels().find((model) => model.uri.path.endsWith('response.json'))?.getValue(),
    );
  }

  /** The whole text of one of GraphiQL's editors; the DOM holds only the lines in view. */
  model(suffix) {
    return this.page.evaluate(
      (end) => globalThis.__MONACO.editor.getModels().find((model) => model.uri.path.endsWith(end))?.getValue() ?? '',
      suffix,
    );
  }

  async type(text, suffix = 'operation.graphql') {
    await this.page.evaluate(
      ([text, end]) => globalThis.__MONACO.editor.getModels().find((model) => model.uri.path.endsWith(end)).setValue(text),
      [text, suffix],
    );
  }

  /** Waits until a language worker has found fault with an editor's text. */
  async fault(suffix) {
    const handle = await this.page.waitForFunction(
      (end) => globalThis.__MONACO.editor.getModelMarkers({}).find((marker) => marker.resource.path.endsWith(end))?.message,
      suffix,
    );
    return handle.jsonValue();
  }
}
