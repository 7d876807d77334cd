// The phone in a page in Chromium: this program serves the page, opens it, and carries orders and answers to and fro.
//   node page_agent.cjs ws://127.0.0.1:8083/mqtt CLIENT_ID DIRECTORY
// Environment: PAGE, the bundle of client-sdk/web/examples/page.ts.
"use strict";

const { readFileSync } = require("node:fs");
const { createServer } = require("node:http");
const { join } = require("node:path");
const { createInterface } = require("node:readline");
const { chromium } = require("playwright-core");

const CHROMIUM = "/usr/bin/chromium";
const ATTEMPTS = 50;
const [url, clientId, directory] = process.argv.slice(2);
const say = (line) => process.stdout.write(`${line}\n`);

// One port for one directory, over restarts: a page finds its IndexedDB again only under its old origin. The browser
// resolves the name itself, so no port is needed twice.
const ORIGIN = "http://phone.test";

function serve() {
  const page = `<!doctype html><meta charset="utf-8"><title>phone</title><script src="/page.js"></script>`;
  const bodies = { "/": ["text/html", page], "/page.js": ["text/javascript", readFileSync(process.env.PAGE)] };
  const server = createServer((request, response) => {
    const [type, body] = bodies[request.url] ?? [];
    if (!body) return response.writeHead(404).end();
    response.writeHead(200, { "content-type": `${type}; charset=utf-8` }).end(body);
  });
  return new Promise((resolve) => server.listen(0, "127.0.0.1", () => resolve(server.address().port)));
}

async function launch(port) {
  const args = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", `--host-resolver-rules=MAP phone.test:80 127.0.0.1:${port}`,
  ];
  for (let attempt = 1; ; attempt++) {
    try {
      return await chromium.launchPersistentContext(join(directory, "profile"), { executablePath: CHROMIUM, args });
    } catch (error) {
      if (attempt === ATTEMPTS) throw error; // the browser of a killed phone needs a moment to let its profile go
      await new Promise((resolve) => setTimeout(resolve, 200));
    }
  }
}

async function main() {
  const browser = await launch(await serve());
  const page = await browser.newPage();
  page.on("pageerror", (error) => process.stderr.write(`in the page: ${error.stack}\n`));
  await page.exposeFunction("say", say);
  await page.goto(`${ORIGIN}/`);
  await page.evaluate(([url, clientId]) => globalThis.start(url, clientId), [url, clientId]);
  for await (const order of createInterface({ input: process.stdin })) {
    const answer = await page.evaluate((order) => globalThis.phone.obey(order), order);
    if (order === "close") await browser.close();
    say(answer);
    if (order === "close") break;
  }
  process.exit(0);
}

main().catch((error) => {
  process.stderr.write(`${error.stack}\n`);
  process.exit(1);
});
