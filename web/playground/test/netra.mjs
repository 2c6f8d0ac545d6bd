// Starts what the browser tests and the screenshot look at: a netra in development mode, and Debian's Chromium.
import { spawn } from 'node:child_process';
import { chmod, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { chromium } from 'playwright-core';

// The first start makes both databases and fills them.
const startLimit = 180_000;
const stopLimit = 30_000;

/** Gives the address of the server named by NETRA_PLAYGROUND_URL, or starts NETRA_BIN with data of its own. */
export async function startNetra() {
  const url = process.env.NETRA_PLAYGROUND_URL;
  if (url) return { url: url.replace(/\/$/, ''), stop: async () => {} };

  const binary = process.env.NETRA_BIN ?? fileURLToPath(new URL('../../../bin/netra', import.meta.url));
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
    return { url: await ready, stop };
  } catch (error) {
    await stop();
    throw error;
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
    const deadline = Date.now() + 30_000;
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

  /** The whole text of one of GraphiQL's editors; the DOM holds only the lines in view. */
  model(suffix) {
    return this.page.evaluate(
      (end) => globalThis.__MONACO.editor.getModels().find((model) => model.uri.path.endsWith(end))?.getValue() ?? '',
      suffix,
    );
  }

  async type(query) {
    await this.page.evaluate((text) => {
      globalThis.__MONACO.editor.getModels().find((model) => model.uri.path.endsWith('operation.graphql')).setValue(text);
    }, query);
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
