// Bytes and numbers as text.
import assert from "node:assert/strict";
import { test } from "node:test";
import { decodeBase64, fromLink, toLink } from "../../ddpm/page/components/base64.js";
import { number, percent, rgb, scientific, signed } from "../../ddpm/page/components/words.js";

test("base64 gives the bytes that it was made of", () => {
  for (const length of [0, 1, 2, 3, 1000]) {
    const bytes = Uint8Array.from({ length }, (_, i) => (i * 37) % 256);
    assert.deepEqual(decodeBase64(Buffer.from(bytes).toString("base64")), bytes);
    assert.equal(toLink(bytes), Buffer.from(bytes).toString("base64url"));
    assert.deepEqual(fromLink(toLink(bytes)), bytes);
  }
});

test("numbers have a true minus, and nothing has none", () => {
  assert.deepEqual([signed(-1.234), signed(-0.001), signed(2, 0)], ["−1.23", "0.00", "2"]);
});

test("shares show the digits that count", () => {
  assert.deepEqual([0, 0.0005, 0.05, 0.5, 0.995, 1].map(percent), ["0.00 %", "0.0500 %", "5.00 %", "50 %", "99.50 %", "100 %"]);
});

test("powers of ten stand above the line", () => {
  assert.equal(scientific("1.2e-7"), "1.2 · 10⁻⁷");
  assert.deepEqual([number(2), number(1234)], ["2", "1.2 · 10³"]);
});

test("a colour is three numbers", () => assert.deepEqual(rgb("#2374D5"), [35, 116, 213]));
