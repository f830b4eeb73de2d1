// The ways a call can go wrong on purpose.
//
// A fault is `{ operation?, path?, times = 1, skip = 0 }`, which says the calls it hits, and one of
//   status + message | raw, headers   that answer instead of GitHub's (`raw` is sent as text/html)
//   kind: "drop"                      the line is cut before anything is done
//   kind: "drop-after"                it is done, then the line is cut: the lost reply
//   kind: "truncate"                  it is done, and only the first bytes of the answer arrive
//   delayMs                           it is done, and answered late
export function createFaults() {
  let list = [];
  return { add, take, before, after, list: () => list, clear: () => void (list = []) };

  function add(fault) {
    list.push({ times: 1, skip: 0, ...fault });
  }

  /** The first fault that fits this call, used up by one. */
  function take(operation, url) {
    const fits = (one) => one.times > 0 && (!one.operation || one.operation === operation) && (!one.path || new RegExp(one.path).test(url));
    const found = list.find(fits);
    if (!found) return undefined;
    if (found.skip > 0) {
      found.skip -= 1;
      return undefined;
    }
    found.times -= 1;
    return found;
  }

  /** True when the fault has answered, so that nothing is done. */
  function before(fault, request, response) {
    if (fault?.kind === 'drop') {
      request.socket.destroy();
      return true;
    }
    if (!fault?.status) return false;
    const type = fault.raw ? 'text/html' : 'application/json';
    response.writeHead(fault.status, { 'content-type': type, ...fault.headers });
    response.end(fault.raw ?? JSON.stringify({ message: fault.message ?? 'a fault of the stand-in' }));
    return true;
  }

  /** True when the fault has spoilt the answer of a call that was done. */
  function after(fault, request, response, { status, text, headers }) {
    if (fault?.kind === 'drop-after') {
      request.socket.destroy();
      return true;
    }
    if (fault?.kind !== 'truncate') return false;
    response.writeHead(status, { ...headers, 'content-length': Buffer.byteLength(text) });
    response.write(text.slice(0, 20), () => request.socket.destroy());
    return true;
  }
}
