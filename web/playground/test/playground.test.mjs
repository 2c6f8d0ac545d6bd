import assert from 'node:assert/strict';
import { after, afterEach, before, beforeEach, describe, it } from 'node:test';
import { Outside, Playground, patience, startBrowser, startNetra } from './netra.mjs';

describe('the playground', () => {
  let netra, browser, context, page, playground, faults;

  before(async () => {
    netra = await startNetra();
    browser = await startBrowser();
  });

  after(async () => {
    await browser?.close();
    await netra?.stop();
  });

  beforeEach(async () => {
    context = await browser.newContext({ viewport: { width: 1440, height: 900 } });
    context.setDefaultTimeout(patience);
    page = await context.newPage();
    playground = new Playground(page);
    faults = watch(page);
  });

  afterEach(async () => {
    await context.close();
    assert.deepEqual(faults, [], 'the page asked another host or wrote an error to the console');
  });

  it('loads from its own host alone, with an example in each tab', async () => {
    await playground.open(netra.url);
    for (const title of ['Viewer', 'Filters', 'Pages', 'Node', 'Users', 'Metrics', 'Deferred', 'Live', 'Resume', 'Errors', 'Limits', 'Introspection']) {
      assert.equal(await playground.tab(title).count(), 1, title);
    }
  });

  it('answers the reference query as alice', async () => {
    await playground.open(netra.url);
    await playground.signIn('alice@example.com');
    await playground.openTab('Viewer');
    const { data, errors } = await playground.run();
    assert.equal(errors, undefined);
    assert.equal(data.viewer.email, 'alice@example.com');
    assert.ok(data.viewer.threads.nodes.length > 0, 'no threads');
    assert.ok(data.viewer.threads.nodes.some((thread) => thread.messages.nodes.length > 0), 'no messages');
    assert.ok(data.viewer.threads.nodes.some((thread) => thread.runs.nodes.length > 0), 'no runs');
  });

  it('answers the analytics example', async () => {
    await playground.open(netra.url);
    await playground.signIn('alice@example.com');
    await playground.openTab('Metrics');
    const { data, errors } = await playground.run();
    assert.equal(errors, undefined);
    assert.ok(data.viewer.metrics.length > 0, 'no metrics');
  });

  it('shows a page before its charts', async () => {
    await playground.open(netra.url);
    await playground.signIn('alice@example.com');
    await playground.openTab('Deferred');
    const [answer] = await Promise.all([page.waitForResponse((response) => response.url().endsWith('/graphql')), playground.execute.click()]);
    assert.match(await answer.headerValue('content-type'), /^multipart\/mixed; boundary="-"; deferSpec=20220824$/);
    const { data, errors } = await playground.response(
      ({ data }) => data.viewer.metrics && data.viewer.threads.nodes.every((thread) => thread.runs),
    );
    assert.equal(errors, undefined);
    assert.ok(data.viewer.name, 'no name');
    assert.ok(data.viewer.metrics.length > 0, 'no metrics');
    assert.ok(data.viewer.threads.nodes.length > 0, 'no threads');
  });

  it('answers every other example for the superuser, with errors only where they are the point', async () => {
    await playground.open(netra.url);
    await playground.signIn('admin@example.com');
    for (const title of ['Filters', 'Pages', 'Node', 'Users', 'Introspection']) {
      await playground.openTab(title);
      const { data, errors } = await playground.run();
      assert.equal(errors, undefined, title);
      assert.ok(data, title);
    }
    for (const title of ['Errors', 'Limits']) {
      await playground.openTab(title);
      const { errors } = await playground.run();
      assert.ok(errors?.length > 0, title);
      for (const error of errors) assert.match(error.extensions.code, /^[A-Z_]+$/, title);
    }
  });

  it('shows agents at work over a websocket, until the user changes', async () => {
    await playground.open(netra.url);
    await playground.signIn('alice@example.com');
    await playground.openTab('Live');
    await playground.execute.click();
    const first = await playground.response((response) => response.data?.runStatusChanged.version > 0);
    await playground.response((response) => response.data.runStatusChanged.cursor !== first.data.runStatusChanged.cursor);
    await playground.openTab('Resume');
    await playground.execute.click();
    await playground.response((response) => response.data?.runStatusChanged.run.id);

    await playground.signIn('bob@example.com');
    await playground.ended();
  });

  it('refuses whoever is signed out, over HTTP and websocket', async () => {
    await playground.open(netra.url);
    await playground.signIn('');
    await playground.openTab('Viewer');
    const { errors } = await playground.run();
    assert.equal(errors[0].extensions.code, 'UNAUTHENTICATED');

    await playground.openTab('Live');
    await playground.execute.click();
    const refused = await playground.response();
    assert.equal(refused.errors[0].extensions.code, 'UNAUTHENTICATED');
  });

  describe('with a subscription', { skip: process.env.NETRA_PLAYGROUND_URL && 'needs a server that it may kill' }, () => {
    let outside, frames;

    before(async () => {
      outside = await Outside.of(netra);
    });

    after(() => outside?.stop());

    beforeEach(() => {
      frames = overhear(page);
    });

    /** Watches the run with what the open tab holds, until its state is shown. */
    async function watchRun(variables) {
      await playground.type(JSON.stringify(variables), 'variables.json');
      await playground.execute.click();
      const { data } = await playground.response(({ data, errors }) => errors || data.runStatusChanged.snapshot);
      return data;
    }

    const version = (expected) => playground.response(({ data }) => data.runStatusChanged.version === expected);

    /** The server is killed, the run goes on, and the server comes back. */
    async function goAway(replica, run, steps) {
      await replica.kill();
      await page.locator('[data-live=waiting]', { hasText: 'live: waiting to connect again' }).waitFor();
      for (let i = 0; i < steps; i++) await outside.step(run);
      await outside.serve(replica.address);
      await page.locator('[data-live=connected]').waitFor();
      // The browser itself says so of each attempt in between, and of parts and workers of the editor that were still to come.
      faults = faults.filter((fault) => !/net::ERR_CONNECTION_REFUSED|Failed to fetch dynamically imported module|^uncaught: Event$/.test(fault));
    }

    it('goes on exactly after the last event when the server was away, and says so', async () => {
      const [replica, token, run] = await Promise.all([outside.serve(), outside.token('alice@example.com'), outside.newRun('alice@example.com')]);
      await playground.open(replica.url);
      await page.getByLabel('Bearer token').fill(token);
      await playground.openTab('Resume');
      assert.equal(await playground.subscription.textContent(), '');
      await watchRun({ run: run.id });
      assert.equal(await playground.subscription.textContent(), 'live');
      await outside.step(run);
      const last = await version(2);

      await goAway(replica, run, 3);
      await version(5);
      await outside.step(run);
      await version(6);
      assert.deepEqual(frames.events().map((event) => event.version), [1, 2, 3, 4, 5, 6], 'nothing missed, nothing repeated');
      assert.deepEqual(frames.events().map((event) => event.snapshot), [true, false, false, false, false, false]);
      assert.deepEqual(frames.subscribed().map(({ variables }) => variables.after), [undefined, last.data.runStatusChanged.cursor]);
      await playground.execute.click();
      await page.locator('[data-live=offline]').waitFor({ state: 'attached' });
    });

    it('begins an operation without a cursor anew when the server was away', async () => {
      const [replica, token, run] = await Promise.all([outside.serve(), outside.token('alice@example.com'), outside.newRun('alice@example.com')]);
      await playground.open(replica.url);
      await page.getByLabel('Bearer token').fill(token);
      await playground.openTab('Resume');
      await playground.type('subscription Anew($run: ID) { runStatusChanged(runId: $run) { version snapshot } }');
      await playground.tab('Anew').waitFor(); // GraphiQL has read the operation's name
      assert.equal((await watchRun({ run: run.id })).runStatusChanged.version, 1);
      await goAway(replica, run, 3);
      await version(4);
      assert.deepEqual(frames.events(), [{ version: 1, snapshot: true }, { version: 4, snapshot: true }]);
    });

    it('fetches another token when the one of a demo user is refused', async () => {
      const [ended, run] = await Promise.all([outside.token('alice@example.com', '1ns'), outside.newRun('alice@example.com')]);
      let asked = 0;
      await page.route('**/playground/config.json', async (route) => {
        const response = await route.fetch();
        const config = await response.json();
        if (asked++ === 0) for (const user of config.users) if (user.email === 'alice@example.com') user.token = ended;
        await route.fulfill({ json: config });
      });
      await playground.open(netra.url);
      await playground.signIn('alice@example.com');
      await playground.openTab('Resume');
      assert.equal((await watchRun({ run: run.id })).runStatusChanged.version, 1);
      assert.equal(asked, 2);
      await playground.openTab('Viewer');
      assert.equal((await playground.run()).data.viewer.email, 'alice@example.com', 'queries have the new token too');
    });

    it('waits for another token when one has ended, and goes on with it', async () => {
      const [replica, run] = await Promise.all([outside.serve(), outside.newRun('alice@example.com')]);
      await playground.open(replica.url);
      await playground.openTab('Resume');
      await page.getByLabel('Bearer token').fill(await outside.token('alice@example.com', '10s'));
      await watchRun({ run: run.id });
      await playground.subscription.getByText('the token has ended: paste another').waitFor();
      for (let i = 0; i < 3; i++) await outside.step(run);
      await page.getByLabel('Bearer token').fill(await outside.token('alice@example.com'));
      await version(4);
      assert.deepEqual(frames.events().map((event) => event.version), [1, 2, 3, 4]);
      assert.deepEqual(frames.events().map((event) => event.snapshot), [true, false, false, false]);
    });

    it('takes a newer token over the open connection, and ends the stream for another user', async () => {
      const [replica, first, newer, bob, run] = await Promise.all([
        outside.serve(),
        outside.token('alice@example.com', '1h'),
        outside.token('alice@example.com', '2h'),
        outside.token('bob@example.com'),
        outside.newRun('alice@example.com'),
      ]);
      await playground.open(replica.url);
      await playground.openTab('Resume');
      await page.getByLabel('Bearer token').fill(first);
      const state = await watchRun({ run: run.id });
      await page.getByLabel('Bearer token').fill(newer);
      await frames.wait(({ type, payload }) => type === 'pong' && payload?.authorized);
      assert.deepEqual(JSON.parse(await playground.model('response.json')).data, state, 'the answer stays');
      await outside.step(run);
      await version(2);
      assert.equal(frames.subscribed().length, 1);

      await page.getByLabel('Bearer token').fill(bob);
      await playground.ended();
      await page.locator('[data-live=offline]').waitFor({ state: 'attached' });
    });

    it('shows a refused token as an error, and a cursor that has expired as such', async () => {
      const [replica, token, run] = await Promise.all([outside.serve(), outside.token('alice@example.com'), outside.newRun('alice@example.com')]);
      await playground.open(replica.url);
      await playground.openTab('Resume');
      await page.getByLabel('Bearer token').fill('forged');
      const { errors } = await playground.run();
      assert.deepEqual(errors, [{ message: 'the server refuses the bearer token', extensions: { code: 'UNAUTHENTICATED' } }]);

      await page.getByLabel('Bearer token').fill(token);
      const { cursor } = (await watchRun({ run: run.id })).runStatusChanged;
      await playground.execute.click();
      await page.getByRole('button', { name: /^Execute/ }).waitFor();
      const foreign = Buffer.from(cursor, 'base64url');
      foreign[5] ^= 1; // of another database
      await playground.type(JSON.stringify({ run: run.id, after: foreign.toString('base64url') }), 'variables.json');
      await playground.execute.click();
      const expired = await playground.response(({ extensions }) => extensions);
      assert.equal(expired.extensions.code, 'CURSOR_EXPIRED');
      assert.equal(expired.data.runStatusChanged.version, 1);
      await playground.subscription.getByText('live, after changes that were missed').waitFor();
    });
  });

  it('remembers the user over a reload', async () => {
    await playground.open(netra.url);
    await playground.signIn('bob@example.com');
    await playground.open(netra.url);
    assert.equal(await page.getByLabel('Signed in as').inputValue(), 'bob@example.com');
    await playground.signIn('');
    await playground.open(netra.url);
    assert.equal(await page.getByLabel('Signed in as').inputValue(), '');
  });

  it('asks for a token where there are no demo users', async () => {
    const { users } = await (await fetch(`${netra.url}/playground/config.json`)).json();
    await page.route('**/playground/config.json', (route) => route.fulfill({ json: { users: [], dev: false } }));
    await playground.open(netra.url);
    await page.getByLabel('Bearer token').fill(users.find((user) => user.email === 'bob@example.com').token);
    await playground.openTab('Viewer');
    const { data } = await playground.run();
    assert.equal(data.viewer.email, 'bob@example.com');
  });

  it('lists the fields in the explorer', async () => {
    await playground.open(netra.url);
    await page.getByRole('button', { name: 'Show GraphiQL Explorer' }).click();
    await page.locator('.graphiql-explorer-root').getByText('viewer', { exact: true }).first().waitFor();
    await page.locator('.graphiql-explorer-root').getByText('threads', { exact: true }).first().waitFor();
  });

  it('opens the docs of the schema from the header', async () => {
    await playground.open(netra.url);
    await page.getByRole('button', { name: 'Schema docs' }).click();
    await page.locator('.graphiql-plugin').getByText('Where reading begins.').or(page.locator('.graphiql-doc-explorer')).first().waitFor();
  });

  it('brings an example back whose tab was closed', async () => {
    await playground.open(netra.url);
    const before = await page.getByRole('tab').count();
    await page.getByRole('button', { name: 'Show Examples' }).click();
    await page.getByRole('region', { name: 'Examples' }).getByRole('button', { name: /^Pages from both ends/ }).click();
    assert.equal(await page.getByRole('tab').count(), before + 1);
    assert.match(await playground.model('operation.graphql'), /query Pages/);
    assert.match(await playground.model('variables.json'), /"size": 3/);
  });

  it('checks operations in its workers and prettifies them', async () => {
    await playground.open(netra.url);
    await playground.openTab('Introspection');
    await playground.type('query Wrong{viewer{nope}}');
    assert.match(await playground.fault('operation.graphql'), /nope/);
    await page.getByRole('button', { name: /^Prettify/ }).click();
    await page.waitForFunction(() =>
      globalThis.__MONACO.editor.getModels().some((model) => model.getValue().startsWith('query Wrong {\n  viewer {\n')),
    );
  });

  it('fits a phone', async () => {
    await page.setViewportSize({ width: 390, height: 844 });
    await playground.open(netra.url);
    await page.getByLabel('Signed in as').waitFor();
    assert.ok(await playground.execute.isVisible());
    const overflow = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
    assert.equal(overflow, 0, 'the page scrolls sideways');
  });
});

/** What goes over the page's websockets. */
function overhear(page) {
  const sent = [];
  const received = [];
  let wake = () => {};
  page.on('websocket', (socket) => {
    socket.on('framesent', ({ payload }) => sent.push(JSON.parse(payload)));
    socket.on('framereceived', ({ payload }) => {
      received.push(JSON.parse(payload));
      wake();
    });
  });
  return {
    events: () => received.filter(({ type }) => type === 'next').map(({ payload }) => payload.data.runStatusChanged),
    subscribed: () => sent.filter(({ type }) => type === 'subscribe').map(({ payload }) => payload),
    wait: async (condition) => {
      while (!received.some(condition)) await new Promise((resolve) => (wake = resolve)); // the test's own limit ends it
    },
  };
}

/** Collects what must not happen on the page. */
function watch(page) {
  const faults = [];
  let own; // where the page itself comes from
  const check = (address) => {
    const { protocol, host } = new URL(address);
    own ??= host;
    if (!['data:', 'blob:'].includes(protocol) && host !== own) faults.push(`request to ${address}`);
  };
  page.on('request', (request) => check(request.url()));
  page.on('websocket', (socket) => check(socket.url()));
  page.on('pageerror', (error) => faults.push(`uncaught: ${error.message}`));
  page.on('console', (message) => {
    if (message.type() === 'error') faults.push(`console: ${message.text()} ${message.location().url}`);
  });
  return faults;
}
