// mqtt.js in a page in Chromium: this program serves the page, opens it, and carries orders and answers to and fro as
// lines of JSON. Environment: INTEROP_PROFILE, an empty directory for the browser; INTEROP_TRUSTED, the hash of the
// public key that the page may trust.
"use strict";

const { existsSync, readFileSync } = require("node:fs");
const { createServer } = require("node:http");
const { join } = require("node:path");
const { createInterface } = require("node:readline");
const { chromium } = require("playwright-core");

const CHROMIUM = "/usr/bin/chromium";
const FILES = {
  "/": ["text/html", join(__dirname, "page.html")],
  "/mqtt_agent.js": ["text/javascript", join(__dirname, "mqtt_agent.js")],
  "/mqtt.min.js": ["text/javascript", join(require.resolve("mqtt"), "../../dist/mqtt.min.js")],
};

const say = (answer) => process.stdout.write(`${JSON.stringify(answer)}\n`);

function serve() {
  const server = createServer((request, response) => {
    const [type, path] = FILES[request.url] ?? [];
    if (!path) return response.writeHead(404).end();
    response.writeHead(200, { "content-type": `${type}; charset=utf-8` }).end(readFileSync(path));
  });
  return new Promise((resolve) => server.listen(0, "127.0.0.1", () => resolve(server.address().port)));
}

async function openPage(port) {
  if (!existsSync(CHROMIUM)) throw new Error(`${CHROMIUM} is missing: apt-get install chromium`);
  const browser = await chromium.launchPersistentContext(process.env.INTEROP_PROFILE, {
    executablePath: CHROMIUM,
    args: [
      "--headless",
      "--no-sandbox",
      "--disable-gpu",
      "--disable-quic",
      "--no-first-run",
      "--disable-background-networking",
      "--disable-component-update",
      "--disable-sync",
      `--ignore-certificate-errors-spki-list=${process.env.INTEROP_TRUSTED}`,
    ],
  });
  const page = await browser.newPage();
  page.on("pageerror", (error) => say({ failed: `in the page: ${error.stack}` }));
  await page.exposeFunction("say", say);
  await page.goto(`http://127.0.0.1:${port}/`);
  return { browser, page };
}

async function main() {
  let opened;
  try {
    opened = await openPage(await serve());
  } catch (error) {
    say({ failed: `no page in Chromium: ${error.stack}` });
    process.exit(1);
  }
  for await (const line of createInterface({ input: process.stdin })) {
    say(await opened.page.evaluate((order) => globalThis.handle(order), JSON.parse(line)));
  }
  await opened.browser.close();
  process.exit(0);
}

main();
