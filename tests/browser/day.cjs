// The operator's day in the console, in Chromium. Prints nothing when all is well; the first thing that is not ends it.
// Environment: DAY_URL, DAY_KEY (the first key), DAY_CREDENTIAL (JSON for FCM), DAY_PROFILE (an empty directory for the
// browser); DAY_PICTURES (a directory): every page is photographed there in both languages and lights.
"use strict";

const { strict: assert } = require("node:assert");
const { mkdirSync } = require("node:fs");
const { join } = require("node:path");
const { chromium } = require("playwright-core");

const { DAY_URL: url, DAY_KEY: key, DAY_CREDENTIAL: credential, DAY_PROFILE: profile, DAY_PICTURES: pictures } = process.env;
const PATIENCE_MS = Number(process.env.DAY_PATIENCE_MS ?? 60_000);
const TITLE = "Your order <script>alert(1)</script> has arrived";
const PASSWORD = "correct horse battery staple";

async function open() {
  const browser = await chromium.launchPersistentContext(profile, {
    executablePath: "/usr/bin/chromium",
    locale: "en-GB",
    viewport: { width: 1280, height: 900 },
    args: ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"],
  });
  browser.setDefaultTimeout(PATIENCE_MS);
  const page = await browser.newPage();
  const wrong = [];
  page.on("pageerror", (error) => wrong.push(`in the page: ${error.stack}`));
  page.on("dialog", (dialog) => wrong.push(`a script ran: ${dialog.message()}`) && dialog.dismiss());
  page.on("console", (message) => {
    // A refused form is an answer of 4xx, which Chromium tells as an error too.
    if (message.type() === "error" && !message.text().startsWith("Failed to load resource")) wrong.push(`console: ${message.text()}`);
  });
  page.on("request", (request) => {
    if (!request.url().startsWith(url) && !request.url().startsWith("data:")) wrong.push(`asks another host: ${request.url()}`);
  });
  return { browser, page, wrong };
}

// What every page must have, whoever reads it with whatever.
async function check(page) {
  const found = await page.evaluate(() => {
    const named = (control) =>
      control.labels?.length > 0 || control.getAttribute("aria-label") || control.getAttribute("aria-labelledby") || control.type === "hidden";
    const ids = [...document.querySelectorAll("[id]")].map((element) => element.id);
    return {
      titles: document.querySelectorAll("h1").length,
      mains: document.querySelectorAll("main").length,
      language: document.documentElement.lang,
      unnamed: [...document.querySelectorAll("input, select, textarea")].filter((control) => !named(control)).map((control) => control.outerHTML),
      nameless: [...document.querySelectorAll("button, a, summary")].filter((element) => !element.textContent.trim()).map((element) => element.outerHTML),
      twice: ids.filter((id, at) => ids.indexOf(id) !== at),
      styled: document.querySelectorAll("[style]").length,
      wide: document.documentElement.scrollWidth - window.innerWidth,
    };
  });
  const where = page.url();
  assert.equal(found.titles, 1, `${where} has one heading of the first level`);
  assert.equal(found.mains, 1, `${where} has one main part`);
  assert.ok(found.language, `${where} names its language`);
  assert.deepEqual(found.unnamed, [], `${where} has controls without a label`);
  assert.deepEqual(found.nameless, [], `${where} has links or buttons without a text`);
  assert.deepEqual(found.twice, [], `${where} has an id twice`);
  assert.equal(found.styled, 0, `${where} has styles that its policy forbids`);
  assert.ok(found.wide <= 0, `${where} is wider than the window by ${found.wide}`);
}

async function go(page, path) {
  await page.goto(`${url}${path}`);
  await check(page);
}

const says = (page, text) => page.getByText(text).first().waitFor();

async function login(page, name, secret) {
  await page.goto(`${url}/console`);
  await check(page);
  if (name) await page.getByLabel("Name").fill(name);
  await page.getByLabel("Key or password").fill(secret);
  await page.getByRole("button", { name: "Log in" }).click();
}

async function comeIn(page) {
  await login(page, "", `${key.split(".")[0]}.wrong`);
  await says(page, "Name, key or password is wrong.");
  await login(page, "", key);
  await says(page, "First steps");
  const cookies = await page.context().cookies();
  const session = cookies.find((cookie) => cookie.name === "reveille_session");
  assert.ok(session.httpOnly && session.sameSite === "Strict", "the cookie is for the server only");
}

async function createApp(page) {
  await go(page, "/console/apps");
  await page.getByLabel("App id").fill("shop");
  await page.getByLabel("Name").fill("Shop 商店");
  await page.getByRole("button", { name: "Create an app" }).click();
  await says(page, "The app is made.");
}

async function addCredential(page) {
  await page.getByRole("link", { name: "Vendors", exact: true }).click();
  await check(page);
  await page.getByRole("link", { name: "FCM" }).click();
  const { service_account: account, endpoint, ca_pem } = JSON.parse(credential);
  await page.getByLabel("service_account").fill("{");
  await page.getByRole("button", { name: "Save" }).click();
  await says(page, "A field is not what it should be.");
  await page.getByLabel("service_account").fill(JSON.stringify(account));
  await page.getByLabel("Further fields").fill(JSON.stringify({ endpoint, ca_pem }));
  await page.getByRole("button", { name: "Save" }).click();
  await says(page, "It is saved.");
  const html = await page.content();
  assert.ok(!html.includes("PRIVATE KEY"), "a secret is shown again");
}

async function register(page, id, token) {
  await go(page, "/console/apps/shop/devices#register");
  const form = page.locator("#register");
  if (!(await form.getByLabel("Device id").isVisible())) await form.locator("summary").click();
  await form.getByLabel("Device id").fill(id);
  await form.getByLabel("User").fill("42");
  await form.getByLabel("Tags").fill("vip, 北京");
  await form.getByLabel("Platform").fill("android");
  await form.getByLabel("Vendor").selectOption("fcm");
  await form.getByLabel("Device token").fill(token);
  await form.getByRole("button", { name: "Register", exact: true }).click();
  await says(page, "The device is registered.");
  await check(page);
}

async function send(page) {
  await page.getByRole("link", { name: "Compose" }).click();
  await check(page);
  await page.locator("label.radio", { hasText: /^Tags$/ }).click();
  await page.getByLabel("Tags", { exact: true }).last().fill("vip");
  await page.locator("#count strong", { hasText: /^2$/ }).waitFor();
  await page.getByLabel("Title").fill(TITLE);
  await page.locator("#f-body").fill("Pick it up at the door. 您的订单已送达。");
  assert.equal(await page.locator("[data-mirror=title]").textContent(), TITLE, "the preview says what the field says");
  await page.getByLabel("Campaign").fill("autumn");
  await page.getByRole("button", { name: "Send", exact: true }).click();
  await says(page, "The message is on its way.");
  await check(page);
}

async function watch(page) {
  // Nobody reloads: the part that is live tells it.
  await page.locator("[data-live]").getByText("Accepted by a vendor 1").waitFor();
  await page.locator("[data-live]").getByText("Failed 1").waitFor();
  assert.equal(await page.locator("h1").textContent(), TITLE, "a title is text");
  return page.url().split("?")[0];
}

async function trace(page, message, device, sentence) {
  await page.goto(message);
  await page.locator("#devices").getByRole("link", { name: device }).click();
  await says(page, sentence);
  await check(page);
}

async function deadToken(page) {
  await page.getByRole("link", { name: "Dead tokens" }).click();
  await page.getByRole("link", { name: "phone-2" }).waitFor();
  await check(page);
  const download = page.waitForEvent("download");
  await page.getByRole("link", { name: "Download CSV" }).click();
  const stream = await (await download).createReadStream();
  let csv = "";
  for await (const piece of stream) csv += piece;
  assert.match(csv, /^vendor,token,device,reason,at_ms\r\n"fcm","dead-2","phone-2",/);
}

async function recall(page, message) {
  await page.goto(message);
  await page.getByText("Recall…").click();
  await page.getByRole("button", { name: "Recall", exact: true }).click();
  await says(page, "The message is recalled.");
}

async function template(page) {
  await page.getByRole("link", { name: "Templates" }).click();
  await says(page, "No templates yet");
  await page.locator("#f-name").fill("order");
  await page.locator("#f-title-0").fill("Order {{ order }} has arrived");
  await page.locator("#f-language-1").fill("zh");
  await page.locator("#f-title-1").fill("订单 {{ order }} 已送达");
  await page.getByLabel("Sample data").fill('{"order": }');
  await page.getByRole("button", { name: "Save template" }).click();
  await says(page, "A field is not what it should be.");
  await page.getByLabel("Sample data").fill('{"order": 7}');
  await page.getByRole("button", { name: "Save template" }).click();
  await says(page, "It is saved.");
  await says(page, "订单 7 已送达");
  await check(page);
  return page.url().split("?")[0];
}

async function schedule(page) {
  await page.getByRole("link", { name: "Schedules" }).click();
  await page.getByRole("link", { name: "New schedule" }).click();
  await page.locator("label.radio", { hasText: /^Tags$/ }).click();
  await page.getByLabel("Tags", { exact: true }).last().fill("vip");
  await page.locator("#f-template").selectOption("order");
  await page.locator("#f-data").fill('{"order": 8}');
  assert.ok(await page.locator("#f-cron").isVisible() && !(await page.locator("#f-not_before").isVisible()), "only the fields of the choice");
  await page.locator("#f-cron").fill("0 25 * * *");
  await page.locator("#f-timezone").fill("Asia/Shanghai");
  await page.locator("#f-schedule_name").fill("Morning");
  await page.getByRole("button", { name: "Send", exact: true }).click();
  await says(page, "character 3:");
  await check(page);
  await page.locator("#f-cron").fill("0 9 * * *");
  await page.getByRole("button", { name: "Send", exact: true }).click();
  await says(page, "It is saved.");
  await check(page);
  await page.getByRole("button", { name: "Pause" }).click();
  await says(page, "Paused");
  return page.url().split("?")[0];
}

async function later(page) {
  await page.getByRole("link", { name: "Compose" }).click();
  await page.locator("label.radio", { hasText: /^Tags$/ }).click();
  await page.getByLabel("Tags", { exact: true }).last().fill("vip");
  await page.getByLabel("Title").fill("Tomorrow");
  await page.locator("label.radio", { hasText: /^Later$/ }).click();
  await page.locator("#f-not_before").fill(new Date(Date.now() + 86_400_000).toISOString().slice(0, 16));
  await page.getByRole("button", { name: "Send", exact: true }).click();
  await says(page, "It is saved.");
  await says(page, "Scheduled");
  await recall(page, page.url().split("?")[0]);
  await says(page, "Cancelled");
}

async function makeKey(page) {
  await go(page, "/console/apps/shop/keys");
  await page.locator("#f-name").fill("order service");
  await page.getByRole("button", { name: "Make a key" }).click();
  const made = await page.locator("#new-key").textContent();
  assert.match(made, /^[0-9a-f]{16}\..{43}$/);
  await check(page);
  await go(page, "/console/apps/shop/keys");
  assert.ok(!(await page.content()).includes(made), "the key is shown twice");
}

async function addPerson(page) {
  await go(page, "/console/people");
  await page.locator("#f-name").fill("ada");
  await page.locator("#f-app").selectOption("shop");
  await page.locator("#f-password").fill(PASSWORD);
  await page.getByRole("button", { name: "Add somebody" }).click();
  await says(page, "The person can log in now.");
  await page.locator("details.account summary").click();
  await page.getByRole("button", { name: "Log out" }).click();
  await login(page, "ada", PASSWORD);
  await says(page, "Online now");
  // Ada may read one app: nothing that changes it, and nothing of the server.
  assert.equal(await page.getByRole("link", { name: "Compose" }).count(), 0);
  await page.goto(`${url}/console/broker`);
  await says(page, "You may not do this.");
  await page.goto(`${url}/console/apps/default`);
  await says(page, "You may not do this.");
}

async function otherLanguageAndLight(page) {
  await page.goto(`${url}/console/apps/shop`);
  await page.getByLabel("Language").selectOption("zh");
  await page.getByRole("heading", { name: "概览", level: 1 }).waitFor();
  await page.getByLabel("明暗").selectOption("dark");
  await page.locator("html[data-light=dark]").waitFor();
  await check(page);
  const dark = await page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  assert.equal(dark, "rgb(15, 19, 24)");
  await page.getByLabel("明暗").selectOption("light");
  await page.locator("html[data-light=light]").waitFor();
  await page.getByLabel("语言").selectOption("en");
  await page.getByRole("heading", { name: "Overview", level: 1 }).waitFor();
}

async function keyboardAndNarrow(page) {
  await page.goto(`${url}/console/apps/shop`);
  await page.keyboard.press("Tab");
  assert.equal(await page.evaluate(() => document.activeElement.className), "skip", "the first stop leads to the content");
  await page.keyboard.press("Enter");
  assert.equal(await page.evaluate(() => document.activeElement.id), "main");
  await page.setViewportSize({ width: 375, height: 800 });
  for (const path of ["", "/messages", "/devices"]) await go(page, `/console/apps/shop${path}`);
  await page.setViewportSize({ width: 1280, height: 900 });
}

const PAGES = {
  overview: "/console/apps/shop",
  messages: "/console/apps/shop/messages",
  "messages-none": "/console/apps/shop/messages?q=nothing",
  compose: "/console/apps/shop/compose",
  schedules: "/console/apps/shop/schedules",
  templates: "/console/apps/shop/templates",
  statistics: "/console/apps/shop/statistics",
  events: "/console/apps/shop/events",
  audit: "/console/apps/shop/audit",
  "audit-all": "/console/audit",
  devices: "/console/apps/shop/devices",
  device: "/console/apps/shop/devices/phone-2",
  audiences: "/console/apps/shop/audiences",
  policies: "/console/apps/shop/policies",
  "policy-new": "/console/apps/shop/policies/edit",
  webhooks: "/console/apps/shop/webhooks",
  vendors: "/console/apps/shop/vendors",
  vendor: "/console/apps/shop/vendors/fcm",
  "vendor-new": "/console/apps/shop/vendors/vivo",
  "dead-tokens": "/console/apps/shop/dead-tokens",
  keys: "/console/apps/shop/keys",
  apps: "/console/apps",
  people: "/console/people",
  broker: "/console/broker",
  sessions: "/console/broker/sessions",
  queues: "/console/broker/queues",
  networks: "/console/broker/networks",
  retained: "/console/broker/retained",
  topics: "/console/broker/topics?topic=plant/1/temperature",
  missing: "/console/nothing",
};

async function photograph(page, message, more) {
  mkdirSync(pictures, { recursive: true });
  await page.context().clearCookies();
  await login(page, "", key);
  await page.waitForURL(/apps/);
  await page.goto(`${url}/console/broker/topics`);
  await page.locator("#f-topic").fill("plant/1/temperature");
  await page.locator("#f-payload").fill('{"celsius": 21.5}');
  await page.locator("#f-retain").check();
  await page.getByRole("button", { name: "Publish" }).click();
  await says(page, "It is published.");
  for (const [name, address] of Object.entries(more)) more[name] = new URL(address).pathname;
  const pages = { ...PAGES, ...more, message: new URL(message).pathname, trace: `${new URL(message).pathname}/devices/phone-2` };
  for (const [language, light] of [["en", "light"], ["zh", "light"], ["en", "dark"], ["zh", "dark"]]) {
    await page.context().addCookies([
      { name: "reveille_language", value: language, url: `${url}/console` },
      { name: "reveille_light", value: light, url: `${url}/console` },
    ]);
    for (const [name, path] of Object.entries(pages)) {
      await page.goto(`${url}${path}`);
      await page.screenshot({ path: join(pictures, `${name}-${language}-${light}.png`), fullPage: true });
    }
  }
  await page.setViewportSize({ width: 375, height: 800 });
  for (const name of ["overview", "compose", "trace"]) {
    await page.goto(`${url}${pages[name]}`);
    await page.screenshot({ path: join(pictures, `${name}-narrow.png`) });
  }
  await page.context().clearCookies({ name: "reveille_session" });
  await page.goto(`${url}/console`);
  await page.screenshot({ path: join(pictures, "login.png") });
}

async function day() {
  const { browser, page, wrong } = await open();
  try {
    await comeIn(page);
    await createApp(page);
    await addCredential(page);
    await register(page, "phone-1", "token-1");
    await register(page, "phone-2", "dead-2");
    await send(page);
    const message = await watch(page);
    await trace(page, message, "phone-1", "FCM accepted it; the device has not confirmed it yet.");
    await trace(page, message, "phone-2", "Not delivered: fcm: token_dead (UNREGISTERED");
    await deadToken(page);
    await recall(page, message);
    const more = { template: await template(page), schedule: await schedule(page) };
    await later(page);
    await makeKey(page);
    await addPerson(page);
    await otherLanguageAndLight(page);
    await keyboardAndNarrow(page);
    if (pictures) await photograph(page, message, more);
    assert.deepEqual(wrong, [], "nothing went wrong in the browser");
  } catch (error) {
    const text = await page.locator("body").innerText().catch(() => "");
    console.error(`${error.stack}\nat ${page.url()}:\n${text}\n${wrong.join("\n")}`);
    process.exitCode = 1;
  }
  await browser.close();
}

day();
