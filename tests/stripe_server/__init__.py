"""A stand-in for Stripe, for its official SDK over HTTP: it keeps state, moves its clock when told, and sends webhooks.

    python -m tests.stripe_server --key sk_test_… --webhook-secret whsec_…

It prints `{"url"}`. What it answers with has the fields of the SDK's own resource classes (annotations.py), and what it
takes is held against the SDK's own parameters. `control.py` is what tests ask for besides.

    forms        reading `a[b][0]=c`            subscriptions  periods, trials, plan changes, cancelling
    state        objects, clock, events         invoices       from draft to paid or failed, proration, previews
    catalogue    products, prices, meters, …    checkout       sessions, and the pages of Checkout, portal and invoices
    api          the routes                     deliveries     signed webhooks, and sending them again
"""
