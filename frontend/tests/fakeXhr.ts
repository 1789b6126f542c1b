import { vi } from "vitest";

/** A request that is moved on by hand. */
export class FakeXhr {
  static readonly HEADERS_RECEIVED = 2;
  static latest: FakeXhr = new FakeXhr();
  readonly upload: { onprogress?: (event: { loaded: number; total: number }) => void } = {};
  readonly send = vi.fn();
  readonly abort = vi.fn();
  readonly sentHeaders: Record<string, string> = {};
  readyState = 0;
  status = 0;
  responseText = "";
  onreadystatechange = (): void => undefined;
  onprogress = (): void => undefined;
  onload = (): void => undefined;
  onerror = (): void => undefined;
  opened: unknown[] = [];

  constructor() {
    FakeXhr.latest = this;
  }
  open(...opened: unknown[]): void {
    this.opened = opened;
  }
  setRequestHeader(name: string, value: string): void {
    this.sentHeaders[name.toLowerCase()] = value;
  }
  getAllResponseHeaders(): string {
    return "content-type: text/event-stream\r\nretry-after: 7\r\n";
  }
  answer(status: number): void {
    this.status = status;
    this.readyState = FakeXhr.HEADERS_RECEIVED;
    this.onreadystatechange();
  }
  write(text: string): void {
    this.responseText += text;
    this.onprogress();
  }
}
