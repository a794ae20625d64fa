-- Revenue by the hour in which the purchase happened (event time, so late purchases count where they belong).
SELECT date_trunc('hour', metadata.event_timestamp) AS hour,
       payload.currency AS currency,
       count(*) AS purchases,
       sum(payload.amount) AS revenue
FROM analytics.user_events
WHERE event_type = 'purchase'
GROUP BY ALL
ORDER BY hour DESC, currency
LIMIT 48
