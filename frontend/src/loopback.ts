/** Whether an address leads to this very machine: nothing is gained by sending less to it. */
export function isOnThisMachine(address: URL): boolean {
  return /^(localhost|.*\.localhost|127\.\d+\.\d+\.\d+|\[::1\])$/.test(address.hostname);
}
