import { describe, expect, it } from "vitest";

import {
  droppedPictures,
  MOST_ENTRIES,
  MOST_PICTURES,
  NOTHING_LEFT_OUT,
  pathOf,
  picturesAmong,
} from "../src/droppedFiles.ts";

const TYPES: Readonly<Record<string, string>> = { jpg: "image/jpeg", svg: "image/svg+xml", txt: "text/plain" };

function fileOf(name: string): File {
  return new File(["x"], name, { type: TYPES[name.split(".").at(-1) ?? ""] ?? "" });
}

interface Tree {
  [name: string]: Tree | "file" | "unreadable";
}

/** A folder as browsers give it, a hundred entries at a time. */
function entryOf(name: string, content: Tree[string], parent = ""): FileSystemEntry {
  const fullPath = `${parent}/${name}`;
  const file = (give: (file: File) => void, fail: (error: Error) => void): void => {
    if (content === "unreadable") fail(new Error("unreadable"));
    else give(fileOf(name));
  };
  const createReader = () => {
    const left = Object.entries(content).map(([inner, tree]) => entryOf(inner, tree as Tree[string], fullPath));
    const readEntries = (give: (entries: FileSystemEntry[]) => void): void => {
      give(left.splice(0, 100));
    };
    return { readEntries };
  };
  const isDirectory = typeof content === "object";
  return { name, fullPath, isDirectory, isFile: !isDirectory, file, createReader } as unknown as FileSystemEntry;
}

/** What is dropped; of folders a browser lists the name among the files too. */
function drop(tree: Tree): DataTransfer {
  const items = Object.entries(tree).map(([name, content]) => ({
    kind: "file",
    webkitGetAsEntry: () => entryOf(name, content),
  }));
  return { items, files: Object.keys(tree).map(fileOf) } as unknown as DataTransfer;
}

const namesOf = (files: readonly File[]): string[] => files.map(({ name }) => name);

describe("what is dropped", () => {
  it("is the pictures, in their order, and counted what is none", () => {
    const { pictures, leftOut } = picturesAmong(["b.jpg", "notes.txt", "a.HEIC", "README", "c.svg"].map(fileOf));
    expect(namesOf(pictures)).toEqual(["b.jpg", "a.HEIC", "c.svg"]);
    expect(leftOut).toEqual({ ...NOTHING_LEFT_OUT, noPictures: 2 });
  });

  it("is a lone file whatever it is, so that it is told what is wrong with it", () => {
    const { pictures, leftOut } = picturesAmong([fileOf("notes.txt")]);
    expect(namesOf(pictures)).toEqual(["notes.txt"]);
    expect(leftOut).toEqual(NOTHING_LEFT_OUT);
  });

  it("is given at once where no folder is among it", () => {
    expect(droppedPictures(drop({ "a.jpg": "file", "b.txt": "file" }))).toMatchObject({ leftOut: { noPictures: 1 } });
  });

  it("is the pictures of a folder and of those within it, sorted as people do", async () => {
    const tree: Tree = {
      "first.jpg": "file",
      lakes: {
        "10.jpg": "file",
        "2.jpg": "file",
        alpine: { "1.jpg": "file", "map.txt": "file" },
        "gone.jpg": "unreadable",
      },
      "last.jpg": "file",
    };
    const { pictures, leftOut } = await droppedPictures(drop(tree));
    expect(pictures.map(pathOf)).toEqual([
      "first.jpg",
      "lakes/2.jpg",
      "lakes/10.jpg",
      "lakes/alpine/1.jpg",
      "last.jpg",
    ]);
    expect(leftOut).toEqual({ ...NOTHING_LEFT_OUT, noPictures: 1, unreadable: 1 });
  });

  it("is nothing that is hidden, and is told also of a folder with a single file", async () => {
    const { pictures, leftOut } = await droppedPictures(
      drop({ lakes: { ".DS_Store": "file", "._a.jpg": "file", ".git": { "b.jpg": "file" }, "notes.txt": "file" } }),
    );
    expect(pictures).toEqual([]);
    expect(leftOut).toEqual({ ...NOTHING_LEFT_OUT, noPictures: 1 });
  });

  it("has an end, which is told", async () => {
    const many = (count: number, ending: string): Tree =>
      Object.fromEntries(Array.from({ length: count }, (_, number) => [`${String(number)}.${ending}`, "file"]));
    const pictures = await droppedPictures(drop({ lakes: many(MOST_PICTURES + 20, "jpg") }));
    expect(pictures.pictures).toHaveLength(MOST_PICTURES);
    expect(pictures.leftOut).toEqual({ ...NOTHING_LEFT_OUT, overLimit: 20 });
    const disk = await droppedPictures(drop({ disk: many(MOST_ENTRIES, "txt"), "a.jpg": "file" }));
    expect(disk.leftOut).toMatchObject({ noPictures: MOST_ENTRIES, unseen: true });
  });
});
