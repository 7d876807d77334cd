// Where inbox and outbox are kept. The default is memory, which a page that is closed forgets.

/** A place for small texts under keys. A promise that ends means: kept, as surely as the platform can. */
export interface Storage {
  /** Everything whose key begins with the prefix. */
  load(prefix: string): Promise<Array<[key: string, value: string]>>;
  put(key: string, value: string): Promise<void>;
  remove(keys: string[]): Promise<void>;
}

/** Forgets with the page or process. */
export class MemoryStorage implements Storage {
  readonly #entries = new Map<string, string>();

  async load(prefix: string): Promise<Array<[string, string]>> {
    return [...this.#entries].filter(([key]) => key.startsWith(prefix));
  }

  async put(key: string, value: string): Promise<void> {
    this.#entries.set(key, value);
  }

  async remove(keys: string[]): Promise<void> {
    keys.forEach((key) => this.#entries.delete(key));
  }
}

/** What `localStorage` has, and what `wx` and `uni` have under other names. */
export interface KeyValue {
  keys(): string[];
  get(key: string): string | null | undefined;
  set(key: string, value: string): void;
  remove(key: string): void;
}

/** Keeps texts in a synchronous key-value store of the platform. */
export class KeyValueStorage implements Storage {
  readonly #store: KeyValue;

  constructor(store: KeyValue) {
    this.#store = store;
  }

  async load(prefix: string): Promise<Array<[string, string]>> {
    const keys = this.#store.keys().filter((key) => key.startsWith(prefix));
    const entries = keys.map((key) => [key, this.#store.get(key)] as const);
    return entries.filter((entry): entry is [string, string] => typeof entry[1] === "string");
  }

  async put(key: string, value: string): Promise<void> {
    this.#store.set(key, value);
  }

  async remove(keys: string[]): Promise<void> {
    keys.forEach((key) => this.#store.remove(key));
  }
}

/** `localStorage` of a page: small (about 5 MB), shared by all pages of the origin. */
export function pageStorage(store: globalThis.Storage = localStorage): Storage {
  return new KeyValueStorage({
    keys: () => Array.from({ length: store.length }, (_, at) => store.key(at) ?? ""),
    get: (key) => store.getItem(key),
    set: (key, value) => store.setItem(key, value),
    remove: (key) => store.removeItem(key),
  });
}

const TABLE = "entries";

/** IndexedDB: for pages and service workers, with room for an outbox of megabytes. */
export class IndexedDbStorage implements Storage {
  readonly #database: IDBDatabase;

  private constructor(database: IDBDatabase) {
    this.#database = database;
  }

  static async open(name = "reveille"): Promise<IndexedDbStorage> {
    const request = indexedDB.open(name, 1);
    request.onupgradeneeded = () => request.result.createObjectStore(TABLE);
    return new IndexedDbStorage(await answered(request));
  }

  async load(prefix: string): Promise<Array<[string, string]>> {
    const range = IDBKeyRange.bound(prefix, `${prefix}\uffff`);
    const table = this.#database.transaction(TABLE).objectStore(TABLE);
    const [keys, values] = await Promise.all([answered(table.getAllKeys(range)), answered(table.getAll(range))]);
    return keys.map((key, at) => [String(key), String(values[at])]);
  }

  put(key: string, value: string): Promise<void> {
    return this.#change((table) => table.put(value, key));
  }

  remove(keys: string[]): Promise<void> {
    return this.#change((table) => keys.forEach((key) => table.delete(key)));
  }

  #change(work: (table: IDBObjectStore) => void): Promise<void> {
    // Without "strict" the browser answers before the disk has it.
    const transaction = this.#database.transaction(TABLE, "readwrite", { durability: "strict" });
    work(transaction.objectStore(TABLE));
    return new Promise((resolve, reject) => {
      transaction.oncomplete = () => resolve();
      transaction.onabort = () => reject(transaction.error);
    });
  }
}

function answered<T>(request: IDBRequest<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}
