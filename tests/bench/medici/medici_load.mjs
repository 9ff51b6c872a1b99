// Payments in medici, for comparison: `node medici_load.mjs <MongoDB URI> <worker number>`.
//
// It takes the jobs of `bench_load` as lines of JSON and answers each with a line. A payment is what
// medici's README shows under "ACID checks of an account balance": in one transaction a journal entry,
// the wallet's balance after it, and last the write lock on the wallet's account. medici runs in
// this very process, with no RPC before it, and is asked for less than a payment of the service is:
// there is no order that is paid once, no idempotency key, and no hash chain.

import { createInterface } from "node:readline";
import { createRequire } from "node:module";

// From the folder that it is started in, where npm has installed what it needs.
const require = createRequire(`${process.cwd()}/`);
const mongoose = require("mongoose");
const { Book, initModels, mongoTransaction } = require("medici");

const [uri, worker] = process.argv.slice(2);
const PRICE_MINOR_UNITS = 12345;
const BALANCE_MINOR_UNITS = 10 ** 12;
const CUSTOMERS_AT_ONCE = 50;
const NUMBERS_OF_A_WORKER = 10 ** 10;
const BUCKET_WIDTH = Math.log(1.01);
const HOT = 1;
const HOT_CUSTOMER = "customer-hot-00";

let nextNumber = Number(worker) * NUMBERS_OF_A_WORKER;

// Whole minor units. Without its cached balances medici adds up the entries of the account by their
// index. With them it goes through all entries of all accounts since the cached one: slower here.
const book = new Book("wallets", { precision: 0, balanceSnapshotSec: 0 });

class TimeIsOver extends Error {}

function now() {
  return Number(process.hrtime.bigint()) / 1e9;
}

function bucketOf(seconds) {
  return Math.trunc(Math.log(Math.max(seconds, 1e-6) / 1e-6) / BUCKET_WIDTH);
}

function customer(wallets) {
  if (wallets === HOT) return HOT_CUSTOMER;
  return `customer-${String(Math.floor(Math.random() * wallets)).padStart(6, "0")}`;
}

async function pay(customerId, until) {
  const wallet = `Accounts:${customerId}`;
  const number = String(nextNumber++).padStart(12, "0");
  await mongoTransaction(async (session) => {
    // Whoever still tries again when the time is over would disturb the next case.
    if (now() >= until) throw new TimeIsOver();
    await book
      .entry("Payment")
      .debit(wallet, PRICE_MINOR_UNITS, { orderId: `order-${number}` })
      .credit("Orders:INR", PRICE_MINOR_UNITS, { orderId: `order-${number}` })
      .commit({ session });
    const { balance } = await book.balance({ account: wallet }, { session });
    if (balance < 0) throw new Error("Not enough balance in wallet.");
    await book.writelockAccounts([wallet], { session });
  });
}

async function fund(customerId) {
  await book
    .entry("Top-up")
    .credit(`Accounts:${customerId}`, BALANCE_MINOR_UNITS)
    .debit("Gateway:razorpay:INR", BALANCE_MINOR_UNITS)
    .commit();
}

async function fundAll(customers) {
  for (let first = 0; first < customers.length; first += CUSTOMERS_AT_ONCE) {
    await Promise.all(customers.slice(first, first + CUSTOMERS_AT_ONCE).map(fund));
  }
  return { funded: customers.length };
}

async function makeLoad(job) {
  const tally = { payments: 0, acknowledged: 0, latencies: {}, errors: {} };
  async function caller() {
    for (;;) {
      const started = now();
      if (started >= job.measure_until) return;
      try {
        await pay(customer(job.wallets), job.measure_until);
      } catch (error) {
        if (error instanceof TimeIsOver) return;
        const name = error.codeName ?? error.name;
        tally.errors[name] = (tally.errors[name] ?? 0) + 1;
        continue;
      }
      const ended = now();
      tally.acknowledged += 1;
      if (job.measure_from <= ended && ended < job.measure_until) {
        tally.payments += 1;
        const bucket = bucketOf(ended - started);
        tally.latencies[bucket] = (tally.latencies[bucket] ?? 0) + 1;
      }
    }
  }
  await Promise.all(Array.from({ length: job.callers }, caller));
  return tally;
}

await mongoose.connect(uri, { w: "majority", journal: true });
await initModels();
process.stdout.write(`${JSON.stringify({ ready: true })}\n`);
for await (const line of createInterface({ input: process.stdin })) {
  const job = JSON.parse(line);
  const answer = job.fund ? await fundAll(job.fund) : await makeLoad(job);
  process.stdout.write(`${JSON.stringify(answer)}\n`);
}
await mongoose.disconnect();
