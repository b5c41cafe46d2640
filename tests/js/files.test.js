// Files that the page itself makes: NumPy's, and archives.
import assert from "node:assert/strict";
import { test } from "node:test";
import { crc32, npy, stacked, zip } from "../../ddpm/page/components/files.js";

const text = (bytes) => new TextDecoder("latin1").decode(bytes);

test("CRC-32 gives the standard's check value", () => {
  assert.equal(crc32(new TextEncoder().encode("123456789")), 0xcbf43926);
  assert.equal(crc32(new Uint8Array()), 0);
});

test("a zip holds its files, whole, where its directory says", async () => {
  const files = [["a.npy", Uint8Array.of(1, 2, 3)], ["b/ü.txt", new Uint8Array()]];
  const view = new DataView(await zip(files).arrayBuffer()), end = view.byteLength - 22;
  assert.equal(view.getUint32(end, true), 0x06054b50);
  assert.equal(view.getUint16(end + 10, true), files.length);
  let entry = view.getUint32(end + 16, true);
  for (const [name, bytes] of files) {
    const length = view.getUint16(entry + 28, true), at = view.getUint32(entry + 42, true);
    assert.equal(view.getUint32(entry, true), 0x02014b50);
    assert.equal(view.getUint32(entry + 16, true), crc32(bytes));
    assert.equal(view.getUint32(at, true), 0x04034b50);
    assert.equal(new TextDecoder().decode(new Uint8Array(view.buffer, at + 30, length)), name);
    assert.deepEqual(new Uint8Array(view.buffer, at + 30 + length, bytes.length), bytes);
    entry += 46 + length;
  }
  assert.equal(entry, end);
});

test("a file for NumPy says type and shape in a header that ends on 64 bytes", () => {
  for (const [numbers, kind, shape] of [[Float32Array.of(1, 2, 3, 4, 5, 6), "<f4", [2, 3]], [Int32Array.of(7), "<i4", [1]]]) {
    const file = npy(numbers, shape), length = file[8] + 256 * file[9], head = text(file.subarray(10, 10 + length));
    assert.deepEqual([...file.subarray(0, 8)], [0x93, ...new TextEncoder().encode("NUMPY"), 1, 0]);
    assert.equal((10 + length) % 64, 0);
    assert.equal(head.trimEnd(), `{'descr': '${kind}', 'fortran_order': False, 'shape': (${shape.map((n) => `${n},`).join(" ")}), }`);
    assert.ok(head.endsWith("\n"));
    assert.deepEqual(file.slice(10 + length), new Uint8Array(numbers.buffer));
  }
});

test("frames are stacked in their order", () => {
  assert.deepEqual(stacked([{ x: [1, 2] }, { x: [3, 4] }], ({ x }) => x, 2), [Float32Array.of(1, 2, 3, 4), [2, 2]]);
});
