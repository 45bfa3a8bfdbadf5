// Quantities in words, for the scripts of pictures; they read as in text.rs.

function digits(value) { return value < 9.995 ? value.toFixed(2) : value < 99.95 ? value.toFixed(1) : value.toFixed(0); }

function duration(ns) {
  if (ns < 0.5) return '0';
  if (ns < 999.5) return Math.round(ns) + ' ns';
  if (ns < 999500) return digits(ns / 1e3) + ' µs';
  return ns < 999500000 ? digits(ns / 1e6) + ' ms' : digits(ns / 1e9) + ' s';
}

function count(value) { return String(value).replace(/\B(?=(\d{3})+$)/g, ','); }
