// The studio's server: questions as JSON, answers as JSON or as one block of arrays.

const TYPES = { u1: Uint8Array, u2: Uint16Array, u4: Uint32Array, f4: Float32Array };

async function ask(path, body, signal) {
  const how = body
    ? { method: "POST", body: JSON.stringify(body), headers: { "content-type": "application/json" }, signal }
    : { signal };
  const response = await fetch(path, how).catch((error) => {
    throw error.name === "AbortError" ? error : new Error("The studio cannot be reached; it may have been ended.");
  });
  if (response.ok) return response;
  const said = await response.json().catch(() => null);
  throw new Error(said?.error?.message ?? `The studio answered ${response.status}.`);
}

export const json = async (path, body, signal) => (await ask(path, body, signal)).json();

export async function arrays(path, body, signal) {
  return unpacked(await (await ask(path, body, signal)).arrayBuffer());
}

// What `quoth.web.packed.pack` packed: the facts, and each array as a typed array with its shape.
export function unpacked(block) {
  const size = new DataView(block).getUint32(0, true);
  const { facts, arrays: places } = JSON.parse(new TextDecoder().decode(new Uint8Array(block, 4, size)));
  const found = { ...facts };
  for (const [name, [type, shape, place]] of Object.entries(places)) {
    const count = shape.reduce((product, side) => product * side, 1);
    const at = 4 + size + place;
    found[name] = type === "f2" ? halves(new Uint16Array(block, at, count)) : new TYPES[type](block, at, count);
    found[name].shape = shape;
  }
  return found;
}

// Not every browser has arrays of float16.
function halves(bits) {
  return Float32Array.from(bits, (x) => {
    const exponent = (x >> 10) & 31;
    const size = exponent ? (1 + (x & 1023) / 1024) * 2 ** (exponent - 15) : (x & 1023) * 2 ** -24;
    return x >> 15 ? -size : size;
  });
}
