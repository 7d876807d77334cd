// Encrypts and signs with the package web-push, and sends what it made. Reads one line of JSON: the subscription, the key, the texts.
// Prints the statuses.
'use strict';
const crypto = require('node:crypto');
const readline = require('node:readline');
const webpush = require('web-push');

readline.createInterface({ input: process.stdin }).once('line', async line => {
  const { subscription, private_key, texts } = JSON.parse(line);
  const { d, x, y } = crypto.createPrivateKey(private_key).export({ format: 'jwk' });
  const point = Buffer.concat([Buffer.from([4]), Buffer.from(x, 'base64url'), Buffer.from(y, 'base64url')]);
  const vapidDetails = { subject: 'mailto:push@shop.example', publicKey: point.toString('base64url'), privateKey: d };
  const statuses = [];
  for (const text of texts) {
    const made = webpush.generateRequestDetails(subscription, text, { vapidDetails, TTL: 60, topic: 'pump7', urgency: 'high' });
    // The package itself calls https only, and the fake is on this machine.
    const answer = await fetch(made.endpoint, { method: made.method, headers: made.headers, body: made.body });
    statuses.push(answer.status);
  }
  console.log(JSON.stringify(statuses));
});
