import assert from 'node:assert/strict';
import { after, afterEach, before, beforeEach, describe, it } from 'node:test';
import { Playground, startBrowser, startNetra } from './netra.mjs';

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
    page = await context.newPage();
    playground = new Playground(page);
    faults = watch(page, netra.url);
  });

  afterEach(async () => {
    await context.close();
    assert.deepEqual(faults, [], 'the page asked another host or wrote an error to the console');
  });

  it('loads from its own host alone, with an example in each tab', async () => {
    await playground.open(netra.url);
    for (const title of ['Viewer', 'Filters', 'Pages', 'Node', 'Users', 'Metrics', 'Deferred', 'Live', 'Errors', 'Limits', 'Introspection']) {
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

    await playground.signIn('bob@example.com');
    await page.getByRole('button', { name: /^Execute/ }).waitFor();
    assert.equal(await playground.model('response.json'), '');
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
    assert.match(JSON.stringify(refused.errors), /UNAUTHENTICATED|44(01|03)/);
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

/** Collects what must not happen on the page. */
function watch(page, url) {
  const faults = [];
  const own = new URL(url).host;
  const check = (address) => {
    const { protocol, host } = new URL(address);
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
