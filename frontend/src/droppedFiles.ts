/** The pictures among the files that somebody drops, pastes or chooses; folders are walked. */

/** As many as one queue holds: more are sooner given to the command, which writes as it goes. */
export const MOST_PICTURES = 500;
/** A folder is read this far, so that a dropped disk ends too. */
export const MOST_ENTRIES = 10_000;

/** What was dropped, and is not among the pictures. */
export interface LeftOut {
  noPictures: number;
  /** Files and folders that the browser may not read. */
  unreadable: number;
  /** Pictures beyond the most that are taken. */
  overLimit: number;
  /** Whether there was more than is looked at. */
  unseen: boolean;
}

export const NOTHING_LEFT_OUT: LeftOut = { noPictures: 0, unreadable: 0, overLimit: 0, unseen: false };

export interface Dropped {
  pictures: File[];
  leftOut: LeftOut;
}

const ENDINGS = /\.(jpe?g|png|webp|gif|bmp|tiff?|avif|hei[cf]|jxl)$/i;

const paths = new WeakMap<File, string>();

/** Gives the path within the folder that was dropped or chosen, as `lakes/alpine/1.jpg`; otherwise the file's name. */
export function pathOf(file: File): string {
  return paths.get(file) ?? (file.webkitRelativePath || file.name);
}

/** Tells pictures from other files, by type, or by name where the browser knows no type. */
export function picturesAmong(files: Iterable<File>): Dropped {
  const sorted = new Sorted();
  for (const file of files) sorted.take(file);
  return sorted.result(sorted.looked === 1);
}

/** Gives what is dropped: at once, unless a folder is to be walked. A lone file is given whatever it is. */
export function droppedPictures(data: DataTransfer): Dropped | Promise<Dropped> {
  // The entries are there only as long as the event is.
  const items = Array.from((data.items as DataTransferItemList | undefined) ?? []);
  const entries = items
    .map((item) => (item.kind === "file" ? item.webkitGetAsEntry() : null))
    .filter((entry) => entry !== null);
  return entries.some((entry) => entry.isDirectory) ? walked(entries) : picturesAmong(data.files);
}

/** Files as they come, told apart and counted. */
class Sorted {
  looked = 0;
  unreadable = 0;
  unseen = false;
  readonly #pictures: File[] = [];
  readonly #others: File[] = [];
  #overLimit = 0;

  take(file: File): void {
    this.looked += 1;
    const isPicture = file.type === "" ? ENDINGS.test(file.name) : file.type.startsWith("image/");
    if (!isPicture) this.#others.push(file);
    else if (this.#pictures.length < MOST_PICTURES) this.#pictures.push(file);
    else this.#overLimit += 1;
  }

  result(isLone: boolean): Dropped {
    // Of a lone file that is none the service says what it is.
    if (isLone) return { pictures: [...this.#pictures, ...this.#others], leftOut: NOTHING_LEFT_OUT };
    const { unreadable, unseen } = this;
    const leftOut = { noPictures: this.#others.length, unreadable, overLimit: this.#overLimit, unseen };
    return { pictures: this.#pictures, leftOut };
  }
}

async function walked(entries: FileSystemEntry[]): Promise<Dropped> {
  const sorted = new Sorted();
  const ahead = [...entries].reverse();
  for (let entry = ahead.pop(); entry !== undefined; entry = ahead.pop()) {
    if (sorted.looked + sorted.unreadable >= MOST_ENTRIES) {
      sorted.unseen = true;
      break;
    }
    if (entry.name.startsWith(".")) continue; // .DS_Store, and the ._photo.jpg that macOS lays beside photo.jpg.
    try {
      if (entry.isDirectory) ahead.push(...(await entriesOf(entry as FileSystemDirectoryEntry)).reverse());
      else sorted.take(await fileOf(entry as FileSystemFileEntry));
    } catch {
      sorted.unreadable += 1;
    }
  }
  return sorted.result(false);
}

/** Gives what is in a folder as people sort it: 2.jpg before 10.jpg. */
async function entriesOf(folder: FileSystemDirectoryEntry): Promise<FileSystemEntry[]> {
  const reader = folder.createReader();
  const all: FileSystemEntry[] = [];
  while (all.length < MOST_ENTRIES) {
    const some = await new Promise<FileSystemEntry[]>((resolve, reject) => {
      reader.readEntries(resolve, reject);
    });
    if (some.length === 0) break; // Browsers give them a hundred at a time.
    all.push(...some);
  }
  return all.sort((one, other) => one.name.localeCompare(other.name, undefined, { numeric: true }));
}

async function fileOf(entry: FileSystemFileEntry): Promise<File> {
  const file = await new Promise<File>((resolve, reject) => {
    entry.file(resolve, reject);
  });
  paths.set(file, entry.fullPath.replace(/^\/+/, ""));
  return file;
}
