// The phone in a page. `say` and the addresses come from whoever opens the page.

import { IndexedDbStorage } from "../src/index.js";
import { type Phone, startPhone } from "./phone.js";

declare global {
  var say: (line: string) => void;
  var phone: Phone | undefined;
  var start: (url: string, clientId: string) => Promise<void>;
}

globalThis.start = async (url, clientId) => {
  const storage = await IndexedDbStorage.open(clientId);
  globalThis.phone = await startPhone({ url, clientId, storage }, globalThis.say);
};
