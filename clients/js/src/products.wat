;; Sums of products of int8 rows with a query, 16 at a time. Compiled into products_wasm.js by clients/js/compile.mjs.
(module
  (memory (export "memory") 40)
  ;; $rows: int8 [count, width]; $query: int16 [width]; $out: int32 [count]; all addresses in bytes.
  (func (export "products") (param $rows i32) (param $query i32) (param $width i32) (param $count i32) (param $out i32)
    (local $sum v128) (local $part v128) (local $at i32) (local $from i32) (local $whole i32) (local $rest i32)
    (local.set $whole (i32.and (local.get $width) (i32.const -16)))
    (block $done
      (loop $row
        (br_if $done (i32.eqz (local.get $count)))
        (local.set $sum (v128.const i32x4 0 0 0 0))
        (local.set $at (i32.const 0))
        (local.set $from (local.get $query))
        (block $enough
          (loop $next
            (br_if $enough (i32.ge_u (local.get $at) (local.get $whole)))
            (local.set $part (v128.load align=1 (i32.add (local.get $rows) (local.get $at))))
            (local.set $sum (i32x4.add (local.get $sum) (i32x4.dot_i16x8_s
              (i16x8.extend_low_i8x16_s (local.get $part)) (v128.load (local.get $from)))))
            (local.set $sum (i32x4.add (local.get $sum) (i32x4.dot_i16x8_s
              (i16x8.extend_high_i8x16_s (local.get $part)) (v128.load offset=16 (local.get $from)))))
            (local.set $at (i32.add (local.get $at) (i32.const 16)))
            (local.set $from (i32.add (local.get $from) (i32.const 32)))
            (br $next)))
        (local.set $rest (i32.add
          (i32.add (i32x4.extract_lane 0 (local.get $sum)) (i32x4.extract_lane 1 (local.get $sum)))
          (i32.add (i32x4.extract_lane 2 (local.get $sum)) (i32x4.extract_lane 3 (local.get $sum)))))
        (block $all
          (loop $one
            (br_if $all (i32.ge_u (local.get $at) (local.get $width)))
            (local.set $rest (i32.add (local.get $rest) (i32.mul
              (i32.load8_s (i32.add (local.get $rows) (local.get $at))) (i32.load16_s (local.get $from)))))
            (local.set $at (i32.add (local.get $at) (i32.const 1)))
            (local.set $from (i32.add (local.get $from) (i32.const 2)))
            (br $one)))
        (i32.store (local.get $out) (local.get $rest))
        (local.set $out (i32.add (local.get $out) (i32.const 4)))
        (local.set $rows (i32.add (local.get $rows) (local.get $width)))
        (local.set $count (i32.sub (local.get $count) (i32.const 1)))
        (br $row)))))
