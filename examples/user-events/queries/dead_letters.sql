-- What did not fit the contract, and why.
SELECT reason, place, count(*) AS records, max(_kafka_offset) AS newest_offset
FROM analytics.user_events_dead
GROUP BY ALL
ORDER BY records DESC
