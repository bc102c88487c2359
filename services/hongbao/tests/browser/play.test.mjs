// The page /play in Chromium: two windows talk to each other, over a kill -9 of the platform, and one of them wins.
// tools/play-test.sh installs what this needs and says where it is: HONGBAO, CHROMIUM, PLAYWRIGHT, and SHOTS for pictures.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';

const { HONGBAO, CHROMIUM, PLAYWRIGHT, SHOTS } = process.env;
const { chromium } = createRequire(import.meta.url)(PLAYWRIGHT);

// For anything that a loaded machine of two cores must do by itself.
const PATIENCE = 30_000;

const CAMPAIGN = `
campaign: 7
name: Try it
time_zone: UTC
vendors:
  - {id: 1, name: Wallet}
limits: {wins_per_round: 50, interval: 10ms, shakes_per_second: 100}
client: {submit_min: 10ms, submit_max: 3s}
rounds:
  - id: 1
    name: Now
    open: +0s
    duration: 3000s
    prizes:
      - {id: 1, name: Cash, kind: cash, weight: 3, vendor: 1, units: 600000, sum: 1200000, min: 0.50, max: 20}
      - {id: 2, name: Cup, kind: voucher, weight: 1, vendor: 1, units: 200000, deliver: on_claim, term: 1h}
`;

const place = mkdtempSync(join(tmpdir(), 'hongbao-play-'));
let platform, ports, browser;

// Starts the platform; a second time where it was.
async function start() {
  const file = join(place, 'ports');
  rmSync(file, { force: true });
  writeFileSync(join(place, 'campaign.yaml'), CAMPAIGN);
  const at = (name) => ports?.[name] ?? '127.0.0.1:0';
  const log = openSync(join(place, 'log'), 'a');
  const set = ['--set', `access.http=${at('http')}`, '--set', `access.tcp=${at('tcp')}`, '--set', `console.http=${at('console')}`];
  platform = spawn(HONGBAO, ['up', '--data', join(place, 'data'), '--campaign', join(place, 'campaign.yaml'), '--port-file', file, '--set', 'play.tokens=true', ...set],
    { stdio: ['ignore', log, log] });
  const end = Date.now() + PATIENCE;
  for (;;) {
    try {
      ports = JSON.parse(readFileSync(file, 'utf8'));
      return;
    } catch {
      assert.ok(Date.now() < end && platform.exitCode === null, `it does not serve:\n${readFileSync(join(place, 'log'), 'utf8')}`);
      await new Promise((done) => setTimeout(done, 50));
    }
  }
}

async function kill() {
  const gone = once(platform, 'exit');
  platform.kill('SIGKILL');
  await gone;
}

before(async () => {
  await start();
  browser = await chromium.launch({ executablePath: CHROMIUM, args: ['--no-sandbox'] });
});

after(async () => {
  await browser?.close();
  await kill();
  rmSync(place, { recursive: true, force: true });
});

// A window of its own, as a person at another machine has.
async function enter(user, locale = 'en-GB') {
  const context = await browser.newContext({ locale });
  context.setDefaultTimeout(PATIENCE);
  const page = await context.newPage();
  const wrong = [];
  page.on('pageerror', (error) => wrong.push(error));
  page.wrong = wrong;
  await page.goto(`http://${ports.http}/play`);
  await page.fill('#user', String(user));
  await page.click('#login button');
  await live(page);
  return page;
}

const live = (page) => page.waitForSelector('#link[data-state=live]', { timeout: 3 * PATIENCE });

async function write(page, words) {
  await page.fill('#words', words);
  await page.press('#words', 'Enter');
}

const sees = (page, words) => page.locator('#messages li', { hasText: words }).and(page.locator(':not(.waits)')).first().waitFor();

// What is shown, in order; each seq once and rising.
async function shown(page) {
  const lines = await page.locator('#messages li[data-seq]').evaluateAll((all) => all.map((li) => [Number(li.dataset.seq), li.firstChild.textContent]));
  const seqs = lines.map(([seq]) => seq);
  assert.deepEqual(seqs, [...new Set(seqs)].sort((a, b) => a - b), 'each once, in order');
  return lines.map(([, words]) => words).filter((words) => words.startsWith('#'));
}

async function shot(page, name) {
  if (SHOTS) await page.screenshot({ path: join(SHOTS, `${name}.png`) });
}

test('two windows talk to each other, over a reload and a kill', async () => {
  const [one, two] = [await enter(101), await enter(102, 'zh-CN')];
  assert.equal(await two.textContent('h1'), '摇一摇 · 中奖 · 聊天');
  await one.fill('#other', '102');
  await one.click('#befriend button');
  // The other is asked, sooner or later.
  await two.locator('#asks button').click();
  await write(one, '#1 hello');
  await two.locator('#talks li').first().click();
  await sees(two, '#1 hello');
  await write(two, '#2 你好 <b>&');
  await sees(one, '#2 你好 <b>&');
  await write(one, '#3 before the kill');
  await sees(two, '#3 before the kill');
  await shot(one, 'chat-en');
  await shot(two, 'chat-zh');

  await kill();
  await one.waitForSelector('#link[data-state=away]');
  await write(one, '#4 written while nobody listens');
  await start();
  await live(one);
  await live(two);
  await sees(two, '#4 written while nobody listens');
  await sees(one, '#4 written while nobody listens');

  await two.reload();
  await live(two);
  await two.locator('#talks li').first().click();
  if (await two.locator('#older').isVisible()) await two.click('#older');
  await sees(two, '#1 hello');
  await write(two, '#5 after a reload');
  await sees(one, '#5 after a reload');
  const all = ['#1 hello', '#2 你好 <b>&', '#3 before the kill', '#4 written while nobody listens', '#5 after a reload'];
  assert.deepEqual(await shown(one), all);
  assert.deepEqual(await shown(two), all);
  assert.deepEqual([one.wrong, two.wrong], [[], []]);
  await one.context().close();
  await two.context().close();
});

test('shaking wins, and the prize is listed', async () => {
  const page = await enter(201);
  await page.click('[data-tab=shake]');
  const end = Date.now() + 2 * PATIENCE;
  while (await page.getAttribute('#told', 'data-told') !== 'won') {
    assert.ok(Date.now() < end, `nothing is won: ${await page.textContent('#told')}`);
    await page.click('#shaker');
    await page.waitForTimeout(20);
  }
  await shot(page, 'won');
  // The official account says so in the chat, by itself.
  await page.click('[data-tab=chats]');
  await page.locator('#talks li', { hasText: /Red envelopes/ }).click();
  await page.locator('#messages li.official', { hasText: /You have won/ }).first().waitFor();
  await shot(page, 'official');
  await page.click('[data-tab=prizes]');
  await page.locator('#awards li .what').first().waitFor();
  assert.match(await page.locator('#awards li .what').first().textContent(), /Cash ¥|Cup/);
  await page.selectOption('#language', 'zh');
  assert.equal(await page.locator('[data-tab=prizes]').textContent(), '奖品');
  await shot(page, 'prizes-zh');
  assert.deepEqual(page.wrong, []);
  await page.context().close();
});

test('test tokens are for pages of this machine only', async () => {
  const ask = (headers, body = '{"user":"7"}') => fetch(`http://${ports.http}/play/token`, { method: 'POST', headers, body });
  assert.equal((await ask({})).status, 200);
  assert.equal((await ask({ Origin: 'https://elsewhere.example' })).status, 403);
  assert.equal((await ask({}, '{"user":"0"}')).status, 400);
});
