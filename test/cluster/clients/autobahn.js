// A client of Autobahn|JS as its users write it: it registers a procedure and calls it again and again.
// Prints a line for each answered call, and for each end of its connection. Arguments: URL and realm.
const autobahn = require("autobahn");

const [url, realm] = process.argv.slice(2);
const connection = new autobahn.Connection({ url, realm, initial_retry_delay: 0.1, retry_delay_growth: 1.1 });

connection.onopen = (session) => {
  const procedure = "js." + session.id;
  const call = () =>
    session.isOpen &&
    session.call(procedure).then(
      () => {
        console.log("answered");
        setTimeout(call, 50);
      },
      (error) => console.log("failed " + error.error),
    );
  session.register(procedure, () => "answer").then(call);
};
connection.onclose = (reason, details) => {
  console.log("closed " + reason + " " + details.reason + " " + details.will_retry);
  return false; // go on as the library does by itself
};
connection.open();
