// The handles of a visitor's own schedule.
import assert from "node:assert/strict";
import { test } from "node:test";
import { moved } from "../../ddpm/lessons/schedules/handles.js";

test("a handle goes where it is dragged, and its neighbours stay", () => {
  assert.deepEqual(moved([0.9, 0.5, 0.1], 1, 0.4), [0.9, 0.4, 0.1]);
});

test("wherever a handle is dragged, the curve falls from below 1 to above 0", () => {
  for (const share of [-1, 0, 0.3, 0.7, 1, 2]) {
    for (const k of [0, 1, 2]) {
      const shares = [1, ...moved([0.9, 0.5, 0.1], k, share), 0];
      assert.ok(shares.every((value, i) => i === 0 || value < shares[i - 1]), `${k} to ${share}: ${shares}`);
    }
  }
});
