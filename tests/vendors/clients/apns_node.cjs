// Sends pushes to the fake APNs with @parse/node-apn, with a token key and with a certificate, and manages broadcast channels.
// Reads one line of JSON from standard input: the two credentials. Prints the answers as JSON.
'use strict';
const readline = require('node:readline');
const apn = require('@parse/node-apn');

async function told(provider, topic) {
  const alert = () => new apn.Notification({ aps: { alert: { title: '泵 7', body: '高' } }, mid: 'm1', topic, pushType: 'alert' });
  const outcome = ({ sent, failed }) => ({
    sent: sent.length,
    failed: failed.map(one => [one.status, one.response && one.response.reason, String(one.error || '')]),
  });
  const first = outcome(await provider.send(alert(), '00aa'));
  const tokens = Array.from({ length: 50 }, (_, number) => number.toString(16).padStart(4, '0'));
  const many = outcome(await provider.send(alert(), tokens));
  const dead = outcome(await provider.send(alert(), 'dead'));
  const silent = new apn.Notification({ aps: { 'content-available': 1 }, topic, pushType: 'background', priority: 10 });
  const loud = outcome(await provider.send(silent, '00aa'));
  const voip = new apn.Notification({ payload: { call: 1 }, topic: `${topic}.voip`, pushType: 'voip', priority: 10 });
  voip.rawPayload = { aps: {}, call: 'x'.repeat(4500) };
  const call = outcome(await provider.send(voip, '00aa'));
  return { first, many, dead, loud, call };
}

async function channels(provider, bundle) {
  const ask = async (fields, action) => {
    const note = new apn.Notification();
    Object.assign(note, fields);
    const { sent, failed } = await provider.manageChannels(note, bundle, action);
    if (failed.length) throw new Error(`${action}: ${JSON.stringify(failed)}`);
    return sent[0];
  };
  const made = await ask({ payload: { 'message-storage-policy': 1 } }, 'create');
  const channelId = made['apns-channel-id'];
  const read = await ask({ channelId }, 'read');
  const all = await ask({}, 'readAll');
  const note = new apn.Notification();
  Object.assign(note, { channelId, pushType: 'liveactivity', priority: 10, expiry: Math.floor(Date.now() / 1000) + 60 });
  note.rawPayload = { aps: { timestamp: 1, event: 'update', 'content-state': { score: 1 } } };
  const cast = await provider.broadcast(note, bundle);
  await ask({ channelId }, 'delete');
  return { channelId, policy: read['message-storage-policy'], all: all.channels, cast: [cast.sent.length, cast.failed] };
}

async function main(line) {
  const { token, certificate } = JSON.parse(line);
  const { hostname, port } = new URL(token.endpoint);
  const way = {
    production: false, address: hostname, port: Number(port), manageChannelsAddress: hostname,
    manageChannelsPort: Number(port), ca: token.ca_pem,
  };
  const signed = new apn.Provider({
    ...way, token: { key: token.private_key, keyId: token.key_id, teamId: token.team_id },
  });
  const certified = new apn.Provider({ ...way, cert: certificate.certificate, key: certificate.private_key });
  const answer = {
    token: await told(signed, token.bundle_id),
    certificate: await told(certified, token.bundle_id),
    channels: await channels(signed, token.bundle_id),
  };
  await Promise.all([signed.shutdown(), certified.shutdown()]);
  process.stdout.write(JSON.stringify(answer) + '\n', () => process.exit(0));
}

readline.createInterface({ input: process.stdin }).once('line', line => {
  main(line).catch(error => {
    console.error(error);
    process.exit(1);
  });
});
